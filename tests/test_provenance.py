import pytest

from colorhub.provenance import public_words


@pytest.mark.parametrize(
    ("word", "public"),
    [
        ("/home/me/photos", "photos"),
        ("--output_dir=/home/me/runs/x", "--output_dir=x"),
        ("file:///home/me/a.zip", "a.zip"),
        ("https://u:secret@host/x.zip?token=abc", "https://host/x.zip"),
        ("owner/name", "owner/name"),
    ],
)
def test_a_published_command_names_no_folder_and_no_secret(word, public):
    assert public_words([word]) == [public]

// What a Viewer does in the browser; see viewer.py. Gradio gives element, props and watch.
const MOST = 8, ROOT = document.documentElement;
const part = name => element.querySelector(name);
const stage = part(".stage"), range = part("input"), flip = part(".flip");
const sides = { left: part(".pane.left img"), right: part(".pane.right img") };
const narrow = matchMedia("(max-width: 639px)");
const fingers = new Map();
let zoom = 1, x = 0, y = 0, view = "Slider", drawn = null;

function divide(share) {
    range.value = share;
    stage.style.setProperty("--share", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${Math.round(range.value)} %`);
    const left = Number(range.value) >= 50;
    flip.setAttribute("aria-pressed", left);
    flip.textContent = left ? "Show the right one" : "Show the left one";
}

function look(to, left, top) {  // x and y are in shares of the picture that lie outside
    zoom = Math.min(MOST, Math.max(1, to));
    x = Math.min(0, Math.max(1 - zoom, left));
    y = Math.min(0, Math.max(1 - zoom, top));
    for (const [name, value] of [["--zoom", zoom], ["--x", `${100 * x}%`], ["--y", `${100 * y}%`]]) {
        ROOT.style.setProperty(name, value);
    }
    part("output").textContent = `${Math.round(100 * zoom)} %`;
    stage.classList.toggle("zoomed", zoom > 1);
}

function zoomAt(to, place) {  // what lies under the place stays there
    to = Math.min(MOST, Math.max(1, to));
    const [u, v] = place ?? [0.5, 0.5];
    look(to, u - (u - x) * to / zoom, v - (v - y) * to / zoom);
}

function placeOf(event) {
    const panes = [...stage.querySelectorAll(".pane")].map(pane => pane.getBoundingClientRect());
    const inside = panes.find(box => event.clientX >= box.left && event.clientX <= box.right);
    const box = inside ?? panes[0];
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

function show() {
    const value = props.value;
    if (!value || !value.left) return;
    view = value.view;
    for (const side of ["left", "right"]) {
        sides[side].src = value[side].url;
        sides[side].alt = value[`${side}_name`];
        part(`.name.${side}`).textContent = value[`${side}_name`];
    }
    stage.dataset.view = view;
    part(".divide").hidden = flip.hidden = view !== "Slider";
    element.classList.add("ready");
    if (drawn === null) divide(narrow.matches ? 0 : 50);  // a thumb covers a line
    drawn = value;
}

sides.right.addEventListener("load", () => {
    const { naturalWidth: width, naturalHeight: height } = sides.right;
    stage.style.setProperty("--aspect", `${width} / ${height}`);
    stage.style.setProperty("--ratio", width / height);
});
range.addEventListener("input", () => divide(range.value));
range.addEventListener("keydown", event => {
    const step = { ArrowLeft: -10, ArrowDown: -10, ArrowRight: 10, ArrowUp: 10 }[event.key];
    if (step && event.shiftKey) {
        divide(Number(range.value) + step);
        event.preventDefault();
    }
});
flip.addEventListener("click", () => divide(Number(range.value) >= 50 ? 0 : 100));
part(".in").addEventListener("click", () => zoomAt(zoom * 1.5));
part(".out").addEventListener("click", () => zoomAt(zoom / 1.5));
part(".fit").addEventListener("click", () => look(1, 0, 0));
part(".full").addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else element.requestFullscreen?.();
});
stage.addEventListener("keydown", event => {
    const move = 0.1;
    const does = {
        "+": () => zoomAt(zoom * 1.5), "=": () => zoomAt(zoom * 1.5), "-": () => zoomAt(zoom / 1.5),
        "0": () => look(1, 0, 0),
        ArrowLeft: () => look(zoom, x + move, y), ArrowRight: () => look(zoom, x - move, y),
        ArrowUp: () => look(zoom, x, y + move), ArrowDown: () => look(zoom, x, y - move),
    }[event.key];
    const arrow = event.key.startsWith("Arrow");
    if (!does || event.ctrlKey || event.metaKey || event.altKey || (arrow && zoom === 1)) return;
    does();
    event.preventDefault();
});
stage.addEventListener("wheel", event => {
    if (!event.ctrlKey && zoom === 1) return;  // the page scrolls
    zoomAt(zoom * Math.exp(-event.deltaY / 300), placeOf(event));
    event.preventDefault();
}, { passive: false });
stage.addEventListener("dblclick", event => {
    if (zoom > 1) look(1, 0, 0);
    else zoomAt(3, placeOf(event));
});
stage.addEventListener("pointerdown", event => {
    fingers.set(event.pointerId, placeOf(event));
    stage.setPointerCapture(event.pointerId);
    if (fingers.size === 1 && zoom === 1 && view === "Slider") divide(100 * placeOf(event)[0]);
});
stage.addEventListener("pointermove", event => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = placeOf(event);
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, now);
    if (other) {
        const [was, is] = [before, now].map(each => Math.hypot(each[0] - other[0], each[1] - other[1]));
        zoomAt(zoom * is / (was || 1), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
    } else if (zoom > 1) {
        look(zoom, x + now[0] - before[0], y + now[1] - before[1]);
    } else if (view === "Slider") {
        divide(100 * now[0]);
    }
});
for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, event => fingers.delete(event.pointerId));
}
look(1, 0, 0);
watch("value", show);
show();

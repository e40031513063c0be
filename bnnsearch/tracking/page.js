// The page's charts and its table of trials: sorted by its heads, filtered by words and limits, linked to the charts.
(() => {
  const charts = [...document.querySelectorAll(".picture svg")];
  const marksOf = chart => [...chart.querySelectorAll("[data-trial]")];
  const table = document.getElementById("trials");
  const heads = table ? [...table.tHead.rows[0].cells] : [], rows = [], rowOf = new Map(), heldOf = new Map();
  for (const cells of table ? JSON.parse(document.getElementById("cells").textContent) : []) {
    const row = table.tBodies[0].insertRow(); // a cell is a text, a number, or a number and its text
    for (const cell of cells) row.insertCell().textContent = Array.isArray(cell) ? cell[1] : cell;
    row.dataset.trial = row.cells[0].textContent;
    row.tabIndex = 0;
    rows.push(row);
    rowOf.set(row.dataset.trial, row);
    heldOf.set(row, cells.map(cell => Array.isArray(cell) ? cell[0] : cell));
  }
  const tip = document.body.appendChild(document.createElement("div"));
  tip.id = "tip";
  tip.setAttribute("role", "status");
  const tell = (text, x, y) => {
    tip.textContent = text;
    tip.style.left = Math.max(0, Math.min(x + 14, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = Math.max(0, Math.min(y + 14, innerHeight - tip.offsetHeight - 8)) + "px";
  };
  const words = number => {
    const row = rowOf.get(number);
    return row ? heads.map((head, place) => [head.textContent, row.cells[place].textContent])
      .filter(pair => pair[1]).slice(0, 16).map(pair => pair.join(": ")).join("\n") : `trial: ${number}`;
  };
  const cellOf = (image, event) => { // what a heat map has under the pointer
    const cells = JSON.parse(image.dataset.cells), box = image.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top) / box.height * cells.names.length);
    const column = Math.floor((event.clientX - box.left) / box.width * cells.epochs.length);
    const value = cells.values[row]?.[column];
    return value == null ? "" : `${cells.names[row]}\nepoch ${cells.epochs[column]}: ${cells.what} ${value}`;
  };

  let chosen = null, marked = null; // trials in a box; the trial whose row is marked
  const light = shown => {
    const lit = marked !== null ? new Set([marked]) : shown.size < rows.length ? shown : null;
    for (const chart of charts) {
      chart.classList.toggle("dimmed", lit !== null);
      for (const mark of marksOf(chart)) mark.classList.toggle("lit", lit !== null && lit.has(mark.dataset.trial));
    }
  };
  const compared = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  const is = {"<": c => c < 0, ">": c => c > 0, "<=": c => c <= 0, ">=": c => c >= 0, "=": c => c === 0};
  const filter = document.getElementById("filter"), told = document.getElementById("shown");
  const fits = (row, word) => {
    const limit = word.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/);
    const place = limit ? heads.findIndex(head => head.dataset.name === limit[1]) : -1;
    if (place < 0) return row.textContent.toLowerCase().includes(word.toLowerCase());
    const value = heldOf.get(row)[place], bound = typeof value === "number" ? Number(limit[3]) : limit[3];
    return value !== "" && is[limit[2]](compared(value, bound));
  };
  const show = () => {
    if (!table) return;
    const asked = filter.value.split(/\s+/).filter(Boolean), shown = new Set();
    for (const row of rows) {
      row.hidden = !asked.every(word => fits(row, word)) || (chosen !== null && !chosen.has(row.dataset.trial));
      row.setAttribute("aria-selected", row.dataset.trial === marked);
      if (!row.hidden) shown.add(row.dataset.trial);
    }
    told.textContent = `${shown.size} of ${rows.length} trials`;
    light(shown);
  };
  const mark = number => {
    marked = marked === number ? null : number;
    show();
  };

  // A box drawn in a chart chooses what has a point, or a corner of its line, in it.
  const within = (mark, box) => {
    const inside = (x, y) => x >= box.left && x <= box.right && y >= box.top && y <= box.bottom;
    if (mark.tagName === "use") {
      const place = mark.getBoundingClientRect();
      return inside((place.left + place.right) / 2, (place.top + place.bottom) / 2);
    }
    const screen = mark.getScreenCTM(), corners = mark.getAttribute("d").match(/-?[\d.]+ -?[\d.]+/g) ?? [];
    return corners.some(corner => {
      const at = new DOMPoint(...corner.split(" ").map(Number)).matrixTransform(screen);
      return inside(at.x, at.y);
    });
  };
  const frame = document.body.appendChild(document.createElement("div"));
  frame.id = "box";
  let from = null, at = -1;
  for (const chart of charts) {
    const marks = marksOf(chart);
    const where = event => ({left: Math.min(from.x, event.clientX), right: Math.max(from.x, event.clientX),
      top: Math.min(from.y, event.clientY), bottom: Math.max(from.y, event.clientY)});
    chart.addEventListener("pointermove", event => {
      if (from) {
        const box = where(event);
        Object.assign(frame.style, {left: box.left + "px", top: box.top + "px",
          width: box.right - box.left + "px", height: box.bottom - box.top + "px"});
        return;
      }
      const hit = event.target.closest("[data-trial], [data-cells]");
      tell(!hit ? "" : hit.dataset.trial ? words(hit.dataset.trial) : cellOf(hit, event), event.clientX, event.clientY);
    });
    chart.addEventListener("pointerleave", () => tell("", 0, 0));
    chart.addEventListener("blur", () => tell("", 0, 0));
    if (!marks.length || !table) continue;
    chart.addEventListener("pointerdown", event => {
      if (event.pointerType === "touch" || event.button) return; // a finger scrolls
      event.preventDefault();
      from = {x: event.clientX, y: event.clientY};
      chart.setPointerCapture(event.pointerId);
    });
    chart.addEventListener("pointerup", event => {
      if (!from) return;
      const box = where(event);
      from = null;
      frame.removeAttribute("style");
      if (box.right - box.left + box.bottom - box.top > 6)
        chosen = new Set(marks.filter(each => within(each, box)).map(each => each.dataset.trial));
      else {
        const hit = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-trial]");
        if (hit) return mark(hit.dataset.trial);
        chosen = marked = null;
      }
      show();
    });
    chart.addEventListener("keydown", event => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (step) {
        at = (Math.max(at, step < 0 ? 0 : -1) + step + marks.length) % marks.length;
        const place = marks[at].getBoundingClientRect();
        tell(words(marks[at].dataset.trial), place.right, place.bottom);
      } else if (event.key === "Enter" && marks[at]) mark(marks[at].dataset.trial);
      else if (event.key === "Escape") all();
      else return;
      event.preventDefault();
    });
    chart.addEventListener("focus", () => { at = -1; });
  }
  for (const menu of document.querySelectorAll(".menu")) {
    const pictures = menu.closest("section").querySelectorAll(".picture");
    menu.addEventListener("change", () => pictures.forEach((each, place) => { each.hidden = place !== menu.selectedIndex; }));
  }
  const all = () => {
    filter.value = "";
    chosen = marked = null;
    show();
  };
  if (!table) return;
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    rows.sort((a, b) => (up ? 1 : -1) * compared(heldOf.get(a)[place], heldOf.get(b)[place]));
    table.tBodies[0].append(...rows);
  }));
  for (const row of rows) {
    row.addEventListener("click", () => mark(row.dataset.trial));
    row.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      mark(row.dataset.trial);
    });
  }
  filter.addEventListener("input", show);
  document.getElementById("all").addEventListener("click", all);
  show();
})();

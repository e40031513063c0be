// The table of trials: sorted by its heads, filtered by words and limits, linked to the charts; and charts in the dark.
(() => {
  const charts = [...document.querySelectorAll(".js-plotly-plot")];
  if (matchMedia("(prefers-color-scheme: dark)").matches) for (const chart of charts) {
    const look = {"font.color": "#e5e7eb"};
    for (const axis of Object.keys(chart.layout).filter(name => /^[xy]axis/.test(name)))
      look[axis + ".gridcolor"] = look[axis + ".linecolor"] = "#334155";
    Plotly.relayout(chart, look);
  }
  const table = document.getElementById("trials");
  if (!table) return;
  const heads = [...table.tHead.rows[0].cells], rows = [...table.tBodies[0].rows];
  const filter = document.getElementById("filter"), told = document.getElementById("shown");
  const points = charts.filter(chart => chart.data.some(trace => trace.customdata));
  const held = cell => cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  const compared = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  const is = {"<": c => c < 0, ">": c => c > 0, "<=": c => c <= 0, ">=": c => c >= 0, "=": c => c === 0};
  let chosen = null;
  const fits = (row, word) => {
    const limit = word.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/);
    const place = limit ? heads.findIndex(head => head.dataset.name === limit[1]) : -1;
    if (place < 0) return row.textContent.toLowerCase().includes(word.toLowerCase());
    const value = held(row.cells[place]), bound = typeof value === "number" ? Number(limit[3]) : limit[3];
    return value !== "" && is[limit[2]](compared(value, bound));
  };
  const show = () => {
    const words = filter.value.split(/\s+/).filter(Boolean);
    const shown = new Set();
    for (const row of rows) {
      const number = Number(row.dataset.trial);
      row.hidden = !words.every(word => fits(row, word)) || (chosen !== null && !chosen.has(number));
      if (!row.hidden) shown.add(number);
    }
    told.textContent = `${shown.size} of ${rows.length} trials`;
    light(shown.size < rows.length ? shown : null);
  };
  const light = numbers => {
    for (const chart of points) chart.data.forEach((trace, place) => {
      if (!trace.customdata) return;
      const lit = numbers && [...trace.customdata].flatMap((number, index) => numbers.has(number) ? [index] : []);
      Plotly.restyle(chart, {selectedpoints: [lit]}, [place]);
    });
  };
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    rows.sort((a, b) => (up ? 1 : -1) * compared(held(a.cells[place]), held(b.cells[place])));
    table.tBodies[0].append(...rows);
  }));
  for (const row of rows) {
    const mark = () => {
      const on = row.getAttribute("aria-selected") !== "true";
      for (const each of rows) each.setAttribute("aria-selected", on && each === row);
      light(on ? new Set([Number(row.dataset.trial)]) : null);
    };
    row.addEventListener("click", mark);
    row.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      mark();
    });
  }
  filter.addEventListener("input", show);
  for (const chart of points) {
    chart.on("plotly_selected", event => {
      chosen = event && new Set(event.points.map(point => point.customdata));
      show();
    });
    chart.on("plotly_deselect", () => {
      chosen = null;
      show();
    });
  }
  show();
})();

"use strict";
(() => {
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");

  // Figures: a colour that begins with "--" is a property of the style sheet, resolved for the present theme.
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const probe = document.body.appendChild(document.createElement("span"));
  probe.hidden = true;
  const resolved = (value) => {
    if (typeof value === "string" && value.startsWith("--")) {
      probe.style.color = `var(${value})`;
      return getComputedStyle(probe).color;
    }
    if (Array.isArray(value)) return value.map(resolved);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, resolved(inner)]));
    }
    return value;
  };
  const draw = () => {
    for (const place of document.querySelectorAll("[data-figure]")) {
      const { data, layout } = resolved(figures[place.dataset.figure]);
      Plotly.react(place, data, layout, { responsive: true, displayModeBar: false });
    }
  };
  draw();

  // Light and dark: as the system wishes, until the reader decides.
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.style.colorScheme ? root.style.colorScheme === "dark" : prefersDark.matches;
    root.style.colorScheme = dark ? "light" : "dark";
    draw();
  });
  prefersDark.addEventListener("change", draw);
  matchMedia("print").addEventListener("change", draw);

  // Trials: sorted by a click on a column, filtered by words and by state.
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const cellValue = (row, index, numeric) => {
    const cell = row.cells[index];
    const text = cell.dataset.value ?? cell.textContent.trim();
    return text === "" ? null : numeric ? Number(text) : text;
  };
  heads.forEach((head, index) => {
    head.firstElementChild.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = (a, b) => {
        const [x, y] = [cellValue(a, index, numeric), cellValue(b, index, numeric)];
        if (x === null || y === null) return (x === null) - (y === null); // empty cells last
        const order = numeric ? x - y : x.localeCompare(y, undefined, { numeric: true });
        return down ? -order : order;
      };
      body.append(...rows.sort(compare));
    });
  });

  const words = document.getElementById("words");
  const kind = document.getElementById("kind");
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const fits = wanted.every((word) => texts.get(row).includes(word)) && [row.dataset.kind, ""].includes(kind.value);
      row.hidden = !fits;
      count += fits;
    }
    document.getElementById("shown").textContent = count === rows.length ? `${count} trials` : `${count} of ${rows.length} trials`;
  };
  words.addEventListener("input", filter);
  kind.addEventListener("change", filter);

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source); // no clipboard for pages opened from disk in some browsers
        button.textContent = "Selected";
      }
    });
  }
})();

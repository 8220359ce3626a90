// Tables sort by a click, Enter or Space on a heading; printing opens what is folded.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortBy(table, heading, column));
  });
}

// Numbers begin with the largest, words with A; whatever is undefined stays at the end in both directions.
function sortBy(table, heading, column) {
  const key = (row) => row.cells[column].dataset.sort;
  const number = (text) => Number(text.replace("inf", "Infinity"));
  const rows = [...table.tBodies[0].rows];
  const [defined, undefinedRows] = [rows.filter(key), rows.filter((row) => !key(row))];
  const isNumeric = defined.every((row) => !Number.isNaN(number(key(row))));
  const first = isNumeric ? "descending" : "ascending";
  const other = isNumeric ? "ascending" : "descending";
  const order = heading.getAttribute("aria-sort") === first ? other : first;
  const compare = isNumeric
    ? (a, b) => number(key(a)) - number(key(b))
    : (a, b) => key(a).localeCompare(key(b), "en", { numeric: true });
  const sign = order === "descending" ? -1 : 1;
  defined.sort((a, b) => sign * compare(a, b)); // stable: equals keep the order that they had
  table.tBodies[0].append(...defined, ...undefinedRows);
  table.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", order);
}

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((each) => (each.open = true));
});
addEventListener("afterprint", () => folded.forEach((each) => (each.open = false)));

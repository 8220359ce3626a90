// Tables sort by a click on a heading; printing opens what is folded.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, heading, column));
  });
}

function sort(table, heading, column) {
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const key = (row) => row.cells[column].dataset.sort;
  const number = (text) => Number(text.replace("inf", "Infinity"));
  const rows = [...table.tBodies[0].rows];
  const numeric = rows.every((row) => key(row) !== "" && !Number.isNaN(number(key(row))));
  rows.sort((a, b) => (numeric ? number(key(a)) - number(key(b)) : key(a).localeCompare(key(b), "en", { numeric: true })));
  table.tBodies[0].append(...(descending ? rows.reverse() : rows));
  table.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((each) => (each.open = true));
});
addEventListener("afterprint", () => folded.forEach((each) => (each.open = false)));

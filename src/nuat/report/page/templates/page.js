"use strict";
// Heads become buttons here and not in the page: without scripts they would do nothing.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("thead th[data-column]")];
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    if (head.hasAttribute("aria-label")) button.setAttribute("aria-label", head.getAttribute("aria-label"));
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(table, heads, head));
  }
}

function sort(table, heads, head) {
  const numeric = head.classList.contains("num");
  const before = head.getAttribute("aria-sort");
  // the best first where it is a number, A first where it is a name
  const order = before === "none" ? (numeric ? "descending" : "ascending") : before === "ascending" ? "descending" : "ascending";
  for (const other of heads) other.setAttribute("aria-sort", other === head ? order : "none");
  const place = Number(head.dataset.column);
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const value = (row) => row.cells[place].dataset.value;
  const rows = [...body.rows].sort((a, b) => {
    const x = value(a), y = value(b);
    // what was not measured is neither small nor large: it stays at the end
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return sign * (numeric ? Number(x) - Number(y) : x.localeCompare(y));
  });
  body.append(...rows);
}

const boxes = [...document.querySelectorAll(".scroll")];
function fade(box) {
  box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 4);
}
const sizes = new ResizeObserver((changed) => changed.forEach((one) => fade(one.target)));
for (const box of boxes) {
  box.addEventListener("scroll", () => fade(box), { passive: true });
  sizes.observe(box);  // unfolding a box gives it a size, too
}

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = target && target.closest("details:not([open])");
  if (folded) {
    folded.open = true;
    target.scrollIntoView();
  }
}
addEventListener("hashchange", reveal);
reveal();

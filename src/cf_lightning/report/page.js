// Tables that sort by a click on a column's head, and buttons that copy.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", event => {
    const head = event.target.closest("th[aria-sort]");
    if (!head) return;
    const numeric = head.classList.contains("number");
    const down = head.getAttribute("aria-sort") === "none" ? numeric : head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const text = row => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent.trim();
    const value = row => { const found = parseFloat(text(row).replaceAll(",", "")); return isNaN(found) ? -Infinity : found; };
    const compare = numeric ? (a, b) => value(a) - value(b) || 0 : (a, b) => text(a).localeCompare(text(b), "en", {numeric: true});
    const rows = [...table.tBodies[0].rows].sort(compare);
    table.tBodies[0].append(...down ? rows.reverse() : rows);
  });
}
for (const button of document.querySelectorAll(".copy button")) {
  button.addEventListener("click", async () => {
    const text = button.previousElementSibling;
    getSelection().selectAllChildren(text);
    try { await navigator.clipboard.writeText(text.textContent); button.textContent = "Copied"; }
    catch { button.textContent = "Selected"; }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

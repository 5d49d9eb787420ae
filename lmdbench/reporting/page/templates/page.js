"use strict";
// Heads of tables become buttons that sort. Without this the tables stand as they are.
(function () {
  function keyOf(row, column) {
    var cell = row.cells[column];
    if (!cell) return null;
    var text = cell.dataset.sort !== undefined ? cell.dataset.sort : cell.textContent.trim();
    if (text === "" || text === "–") return null;
    var number = /^[-−+]?[\d,]*\.?\d+/.exec(text);
    if (!number) return text.toLowerCase();
    var value = parseFloat(number[0].replace(/,/g, "").replace("−", "-"));
    return isNaN(value) ? text.toLowerCase() : value;
  }
  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  }
  function headsOf(table) {  // the lowest head of each column, where heads span rows and columns
    var grid = [];
    Array.prototype.forEach.call(table.tHead.rows, function (row, r) {
      grid[r] = grid[r] || [];
      var c = 0;
      Array.prototype.forEach.call(row.cells, function (cell) {
        while (grid[r][c]) c += 1;
        for (var down = 0; down < cell.rowSpan; down += 1) {
          grid[r + down] = grid[r + down] || [];
          for (var right = 0; right < cell.colSpan; right += 1) grid[r + down][c + right] = cell;
        }
        c += cell.colSpan;
      });
    });
    return grid[grid.length - 1];
  }
  function sort(table, head, column, said) {
    var rows = [];
    Array.prototype.forEach.call(table.tBodies[0].rows, function (row, place) {
      rows.push({ row: row, place: place, key: keyOf(row, column) });
    });
    var now = head.getAttribute("aria-sort");
    var numbers = rows.some(function (entry) { return typeof entry.key === "number"; });
    var rising = now ? now === "descending" : !numbers;  // numbers begin with the largest
    rows.sort(function (a, b) {
      if (a.key === null || b.key === null) {  // what is missing stays last
        return (a.key === null) - (b.key === null) || a.place - b.place;
      }
      var order = compare(a.key, b.key);
      return (rising ? order : -order) || a.place - b.place;
    });
    rows.forEach(function (entry) { table.tBodies[0].appendChild(entry.row); });
    table.tHead.querySelectorAll("th[aria-sort]").forEach(function (other) {
      other.removeAttribute("aria-sort");
    });
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    said.textContent = "Sorted by " + head.textContent.trim() + (rising ? ", rising" : ", falling");
  }
  var said = document.createElement("div");
  said.className = "visually-hidden";
  said.setAttribute("aria-live", "polite");
  document.body.appendChild(said);
  document.querySelectorAll("main table").forEach(function (table) {
    if (!table.tHead || !table.tBodies.length || table.tBodies[0].rows.length < 2) return;
    headsOf(table).forEach(function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      button.addEventListener("click", function () { sort(table, head, column, said); });
    });
  });
})();

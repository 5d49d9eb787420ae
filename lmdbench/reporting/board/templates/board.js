"use strict";
// Tables and rows are chosen by what stands in their data attributes. Without this all are shown.
(function () {
  var chooser = document.querySelector(".chooser");
  if (!chooser) return;
  chooser.hidden = false;
  var selects = chooser.querySelectorAll("select");
  var words = chooser.querySelector("input");
  var count = chooser.querySelector(".count");
  function choose() {
    var wanted = words.value.trim().toLowerCase();
    var rows = 0, tables = 0;
    document.querySelectorAll("section[data-facets]").forEach(function (section) {
      var facets = JSON.parse(section.dataset.facets);
      var fits = Array.prototype.every.call(selects, function (select) {
        return !select.value || facets[select.name] === select.value;
      });
      var shown = 0;
      section.querySelectorAll("tbody tr[data-words]").forEach(function (row) {
        row.hidden = row.dataset.words.indexOf(wanted) < 0;
        if (!row.hidden && !row.classList.contains("printed")) shown += 1;
      });
      section.hidden = !fits || shown === 0;
      if (!section.hidden) { tables += 1; rows += shown; }
    });
    count.textContent = rows + (rows === 1 ? " row" : " rows") + " in " + tables + (tables === 1 ? " table" : " tables");
    var asked = [];
    selects.forEach(function (select) {
      if (select.value) asked.push(encodeURIComponent(select.name) + "=" + encodeURIComponent(select.value));
    });
    if (wanted) asked.push("method=" + encodeURIComponent(wanted));
    history.replaceState(null, "", asked.length ? "#" + asked.join("&") : location.pathname + location.search);
  }
  location.hash.slice(1).split("&").forEach(function (pair) {  // a link may say what is chosen
    var parts = pair.split("=").map(decodeURIComponent);
    if (parts[0] === "method" && parts[1]) words.value = parts[1];
    selects.forEach(function (select) { if (select.name === parts[0]) select.value = parts[1]; });
  });
  selects.forEach(function (select) { select.addEventListener("change", choose); });
  words.addEventListener("input", choose);
  if (!/^#table-/.test(location.hash)) choose();
})();

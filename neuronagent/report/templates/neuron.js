// Arrow keys among the tokens of an example, which are one tab stop; a screen reader hears their values; Escape hides
// them. Everything can be read without this.
(() => {
  const said = document.getElementById("said");
  const token = (target) => (target instanceof Element ? target.closest(".t[role] i, .t[role] b") : null);
  const names = { a: "gate plus, in plus", b: "gate plus, in minus", c: "gate minus, in plus", d: "gate minus, in minus" };

  function place(it) {
    document.body.classList.remove("quiet");
    const below = innerHeight - it.getBoundingClientRect().bottom;
    it.closest(".t").classList.toggle("up", below < 80);
  }
  function go(it) {
    for (const other of it.closest(".t").querySelectorAll("[tabindex]")) other.tabIndex = -1;
    it.tabIndex = 0;
    it.focus();
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      document.body.classList.add("quiet");
      return;
    }
    const it = token(document.activeElement);
    if (!it || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const all = [...it.closest(".t").querySelectorAll("i, b")];
    const at = all.indexOf(it);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (all[to]) go(all[to]);
  });
  document.addEventListener("click", (event) => {
    const it = token(event.target);
    if (it && getSelection().isCollapsed) go(it);
  });
  document.addEventListener("focusin", (event) => {
    const it = token(event.target);
    if (!it) return;
    place(it);
    const [gate, x_in, act, post] = (it.dataset.v || "").split("\t");
    said.textContent = post ? `${names[it.className[0]] || "exact zero"}; gate ${gate}, in ${x_in}, act ${act}, post ${post}` : "no values";
  });
  document.addEventListener("pointerover", (event) => {
    const it = token(event.target);
    if (it) place(it);
  });
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.p:not([open])")];
    for (const it of opened) it.open = true;
  });
  addEventListener("afterprint", () => {
    for (const it of opened) it.open = false;
  });
})();

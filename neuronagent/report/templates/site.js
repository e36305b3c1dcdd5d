"use strict";
(() => {
  // Rows come as columns of whole numbers (report/site_data.py). Whatever is shown is set as text, never as markup.
  const PAGE = 30, WAIT = 300, PARTS = 1e5, COMBINATIONS = ["gate+_in+", "gate+_in-", "gate-_in+", "gate-_in-"], WRITES = [0, 1, 1, 0];
  const data = JSON.parse(document.getElementById("data").textContent);
  const { columns, units, names } = data;
  const count = columns.layer.length;
  const numbers = (list) => Float64Array.from(list, (value) => (value === null ? NaN : value));
  for (const name of ["cos_gate_in", "cos_gate_out", "cos_in_out"]) columns[name] = numbers(columns[name]);
  for (const name of ["frequency", "mass", "auroc", "auroc_lo", "auroc_hi", "lift", "lift_lo", "lift_hi"]) units[name] = numbers(units[name]);

  const form = document.getElementById("filters"), table = document.getElementById("rows");
  const status = document.getElementById("status"), pager = document.getElementById("pager");
  const field = (name) => form.elements.namedItem(name);
  const heads = new Map([...table.querySelectorAll("th[data-sort]")].map((head) => [head.dataset.sort, head]));
  const shows = (name) => heads.has(name);

  // What is searched: of each unit its neuron's name and class, its explanation, its tokens; blanks within tokens too.
  const nameOf = (i) => `${columns.layer[i]}.${columns.index[i]}`;
  const named = (list, place) => (place < 0 ? "" : list[place]);
  const texts = new Array(4 * count);
  for (let i = 0; i < count; i++) {
    const own = `${nameOf(i)} ${named(names.classes, columns.class[i])} ${named(names.roles, columns.role[i])}`;
    const tokens = columns.writes[i].map((list) => list.map((place) => names.tokens[place]).join(" "));
    for (let c = 0; c < 4; c++) {
      const u = 4 * i + c;
      texts[u] = `${own} ${named(names.texts, units.text[u])} ${tokens[WRITES[c]]} ${named(names.writers, units.writer[u])}`
        .replaceAll("␣", " ").toLowerCase();
    }
  }

  // State: what is filtered and sorted, as strings; it is the address, too.
  const FILTERS = ["q", "class", "role", "layer", "c", "verdict", "fmin", "fmax", "smin", "smax", "only"].filter(field);
  let state = {}, found = [], masks = new Uint8Array(count), page = 0;

  const number = (text) => {
    const value = Number(text.trim().replace("%", "").replace(",", "."));
    return text.trim() === "" ? null : value;
  };
  const layersOf = (text) => {
    const spans = text.trim().split(/[\s,;]+/).filter(Boolean).map((part) => /^(\d+)(?:[-–−](\d+))?$/.exec(part));
    if (spans.some((span) => span === null)) return NaN;
    return spans.length ? (layer) => spans.some((s) => layer >= +s[1] && layer <= +(s[2] ?? s[1])) : null;
  };

  /** The bounds that are given, in the columns' units; what cannot be read is marked, and does not count. */
  function read() {
    const bound = (name, parts, none) => {
      const value = state[name] ? number(state[name]) : null;
      const wrong = Number.isNaN(value);
      field(name)?.setAttribute("aria-invalid", wrong);
      return value === null || wrong ? none : value * parts;
    };
    const layer = layersOf(state.layer ?? "");
    const wrong = typeof layer === "number";
    field("layer")?.setAttribute("aria-invalid", wrong);
    const places = (list, chosen) => new Set(chosen.map((name) => (name === "none" ? -1 : list.indexOf(name))));
    return {
      words: (state.q ?? "").replaceAll("␣", " ").toLowerCase().split(/\s+/).filter(Boolean),
      classes: state.class ? places(names.classes, state.class.split(",")) : null,
      role: state.role ? places(names.roles, [state.role]) : null,
      verdict: state.verdict ? places(names.verdicts, [state.verdict]) : null,
      layer: wrong ? null : layer,
      only: COMBINATIONS.indexOf(state.c ?? ""),
      fmin: bound("fmin", PARTS / 100, -Infinity), fmax: bound("fmax", PARTS / 100, Infinity),
      smin: bound("smin", PARTS, -Infinity), smax: bound("smax", PARTS, Infinity),
    };
  }

  /** Which neurons have a combination that meets all that is asked for; `masks`: which of the four. */
  function filter() {
    const asked = read();
    const byFrequency = asked.fmin > -Infinity || asked.fmax < Infinity, byScore = asked.smin > -Infinity || asked.smax < Infinity;
    found = [];
    let matching = 0;
    for (let i = 0; i < count; i++) {
      masks[i] = 0;
      if (asked.classes && !asked.classes.has(columns.class[i])) continue;
      if (asked.role && !asked.role.has(columns.role[i])) continue;
      if (asked.layer && !asked.layer(columns.layer[i])) continue;
      for (let c = 0; c < 4; c++) {
        const u = 4 * i + c;
        if (asked.only >= 0 && asked.only !== c) continue;
        if (asked.verdict && !asked.verdict.has(units.verdict[u])) continue;
        if (byFrequency && !(units.frequency[u] >= asked.fmin && units.frequency[u] <= asked.fmax)) continue;
        if (byScore && !(units.auroc[u] >= asked.smin && units.auroc[u] <= asked.smax)) continue;
        if (!asked.words.every((word) => texts[u].includes(word))) continue;
        masks[i] |= 1 << c;
        matching++;
      }
      if (masks[i]) found.push(i);
    }
    return matching;
  }

  // Order: numbers that are not there come last both ways; ties in the order of the report.
  const ranks = {};
  function rank(list, name, order) {
    if (!ranks[name]) {
      const low = order ?? list.map((text) => text.toLowerCase());
      const sorted = list.map((_, place) => place).sort((a, b) => (low[a] < low[b] ? -1 : low[a] > low[b] ? 1 : 0));
      ranks[name] = new Float64Array(list.length);
      sorted.forEach((place, at) => { ranks[name][place] = at; });
    }
    return ranks[name];
  }
  const listed = (name, list) => {
    const options = field(name) ? [...field(name).options].map((option) => option.value) : [];
    return list.map((text) => options.indexOf(text));
  };
  const best = (value, descending) => (i) => {
    let most = NaN;
    for (let c = 0; c < 4; c++) {
      const own = masks[i] & (1 << c) ? value(4 * i + c) : NaN;
      if (!(descending ? own <= most : own >= most) && !Number.isNaN(own)) most = own;
    }
    return most;
  };
  function keyOf(name, descending) {
    if (name === "neuron") return (i) => columns.layer[i] * 1e9 + columns.index[i];
    if (name === "class") {
      const order = rank(names.classes, "class", listed("class", names.classes)), roles = rank(names.roles, "role", listed("role", names.roles));
      return (i) => (columns.class[i] < 0 ? NaN : 100 * order[columns.class[i]] + (columns.role[i] < 0 ? 99 : roles[columns.role[i]]));
    }
    if (columns[name] instanceof Float64Array) return (i) => columns[name][i];
    if (name === "text" || name === "verdict") {
      const order = name === "text" ? rank(names.texts, "text") : rank(names.verdicts, "verdict", listed("verdict", names.verdicts));
      return best((u) => (units[name][u] < 0 ? NaN : order[units[name][u]]), descending);
    }
    return best((u) => units[name][u], descending);
  }
  function sort() {
    const [name, descending] = sorting();
    if (!name) return;
    const key = keyOf(name, descending), keys = new Float64Array(count);
    for (const i of found) keys[i] = key(i);
    const sign = descending ? -1 : 1;
    found.sort((a, b) => {
      const x = keys[a], y = keys[b];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
      return sign * (x - y) || a - b;
    });
  }
  function sorting() {
    const asked = state.sort ?? "", name = asked.replace(/^-/, "");
    return shows(name) ? [name, asked.startsWith("-")] : ["", false];
  }

  // Numbers in the forms of the other pages (wording.py).
  const minus = (text) => text.replace("-", "−");
  const cosine = (value) => {
    if (Number.isNaN(value)) return "–";
    const real = value / PARTS, small = real !== 0 && Math.abs(real) < 0.095;
    return (real < 0 ? "−" : "+") + (small ? String(Number(Math.abs(real).toPrecision(2))) : Math.abs(real).toFixed(2));
  };
  const percent = (share) => {
    if (Number.isNaN(share)) return "–";
    if (share > 0 && share < 0.0005) return "<0.1 %";
    if (share >= 0.9995 && share < 1) return ">99.9 %";
    return share > 0 && share < 1 ? `${(100 * share).toFixed(1)} %` : `${(100 * share).toFixed(0)} %`;
  };
  const score = (value) => {
    const real = value / PARTS;
    if (real > 0 && real < 0.0001) return "<.0001";
    if (real > 0 && real < 0.095) return real.toFixed(1 - Math.floor(Math.log10(real))).replace(/^0/, "");
    if (real >= 0.995 && real < 1) return (Math.floor(real * 1000) / 1000).toFixed(3).replace(/^0/, "");
    return real.toFixed(2) === "1.00" ? "1.0" : real.toFixed(2).replace(/^0/, "");
  };
  const lift = (value) => (value < 0 ? "−" : "+") + score(Math.abs(value));

  function make(tag, kind, ...inner) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    made.append(...inner);
    return made;
  }
  /** An explanation, what stands in backquotes as code. */
  function said(text) {
    const parts = text.split("`");
    return parts.map((part, place) => (place % 2 && place < parts.length - 1 ? make("code", "", part) : part));
  }
  const interval = (lo, hi, form, between, [open, close] = "[]") =>
    (Number.isNaN(lo) || Number.isNaN(hi) ? "" : ` ${open}${form(lo)}${between}${form(hi)}${close}`);

  const tones = new Map([...document.querySelectorAll(".bars a")].map((a) => [a.textContent, a.className]));
  function unitCells(u, c) {
    const explained = units.verdict[u] >= 0, own = make("td", "said");
    if (units.text[u] >= 0) own.append(make("bdi", "", ...said(names.texts[units.text[u]])));
    const writer = named(names.writers, units.writer[u]);
    if (writer && writer !== "rule") own.append(make("span", "soft", ` (${writer})`));
    const auroc = make("td", "number auroc"), above = make("td", "number lift");
    if (!Number.isNaN(units.auroc[u])) {
      auroc.append(score(units.auroc[u]), make("span", "soft", interval(units.auroc_lo[u], units.auroc_hi[u], score, "–")));
      if (units.items[u] >= 0) auroc.append(" ", make("span", "items soft", names.items[units.items[u]]));
    }
    if (!Number.isNaN(units.lift[u])) above.append(lift(units.lift[u]), make("span", "soft", interval(units.lift_lo[u], units.lift_hi[u], lift, ", ")));
    const verdict = explained ? names.verdicts[units.verdict[u]] : "not explained";
    const cells = [make("td", `c k${c}`, COMBINATIONS[c].replace("_", " ").replaceAll("-", "−")), make("td", "number right frequency", percent(units.frequency[u] / PARTS))];
    if (shows("mass")) cells.push(make("td", "number right mass", percent(units.mass[u] / PARTS)));
    cells.push(own, auroc, above, make("td", `verdict ${tones.get(verdict) ?? "soft"}`, verdict));
    return cells;
  }
  function neuronCells(i, lines) {
    const head = make("th", "n name"), page = columns.page[i];
    head.scope = "rowgroup";
    if (page === null) head.append(nameOf(i));
    else {
      const link = make("a", "", nameOf(i));
      link.href = page === 1 ? `${nameOf(i)}.html` : page;
      head.append(link);
    }
    const cells = [head];
    if (shows("class")) {
      const own = make("td", "n class");
      if (columns.class[i] >= 0) {
        const name = names.classes[columns.class[i]], dot = make("span", "dot");
        dot.style.setProperty("--of", `var(--${name.replace("atypical ", "").replaceAll(" ", "-")})`);
        own.append(dot, name);
      }
      cells.push(own);
      for (const name of ["cos_gate_in", "cos_gate_out", "cos_in_out"]) {
        const cell = make("td", "n number right cosine", cosine(columns[name][i]));
        cell.dataset.of = heads.get(name).dataset.label;
        cells.push(cell);
      }
    }
    for (const cell of cells) if (!shows("class")) cell.rowSpan = lines;
    return cells;
  }
  /** Role, and the tokens that the neuron promotes: below class and cosines, in the width of all of them. */
  function more(i) {
    const found = columns.writes[i].filter((tokens) => tokens.length).map((tokens, place) => {
      const shown = tokens.flatMap((token) => [" ", make("bdi", "", make("code", "", names.tokens[token]))]);
      return make("span", "writes", make("span", "soft", place ? "−out" : "+out"), ...shown);
    });
    return columns.role[i] < 0 ? found : [make("span", "role soft", `${names.roles[columns.role[i]]} neuron`), ...found];
  }
  function body(i) {
    const shown = [0, 1, 2, 3].filter((c) => !state.only || masks[i] & (1 << c)), made = make("tbody", "");
    shown.forEach((c, place) => {
      const line = make("tr", masks[i] & (1 << c) ? "" : "other");
      if (!place) line.append(...neuronCells(i, shown.length));
      if (shows("class") && !place && (narrow.matches || shown.length < 2)) line.querySelector(".class").append(...more(i));
      else if (shows("class") && place === 1 && !narrow.matches) {
        const cell = make("td", "n more", ...more(i));
        [cell.colSpan, cell.rowSpan] = [5, shown.length - 1];
        line.append(cell);
      }
      line.append(...unitCells(4 * i + c, c));
      made.append(line);
    });
    return made;
  }

  const narrow = matchMedia("(max-width: 900px)");
  narrow.addEventListener("change", update);

  function draw(matching) {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(0, (parseInt(state.page, 10) || 1) - 1), pages - 1);
    const first = page * PAGE, shown = found.slice(first, first + PAGE), some = (n) => n.toLocaleString("en");
    table.replaceChildren(table.tHead, ...shown.map(body));
    table.hidden = !shown.length;
    pager.hidden = pages < 2;
    pager.querySelector("span").textContent = `${some(first + 1)}–${some(first + shown.length)} of ${some(found.length)}`;
    pager.querySelector("[data-step='-1']").disabled = page === 0;
    pager.querySelector("[data-step='1']").disabled = page === pages - 1;
    const wrong = [...form.querySelectorAll("[aria-invalid=true]")].map((one) => one.ariaLabel || one.name);
    status.textContent = (found.length
      ? `${some(found.length)} of ${some(count)} neurons` + (matching < 4 * found.length ? `, ${some(matching)} of their combinations match` : "")
      : "No neuron meets all of this: loosen or clear a filter.")
      + (wrong.length ? ` Not understood, and left out: ${wrong.join(", ")}.` : "");
    const [name, descending] = sorting();
    for (const [key, head] of heads) {
      if (key === name) head.ariaSort = descending ? "descending" : "ascending";
      else head.removeAttribute("aria-sort");
    }
    order.value = name ? state.sort : "";
  }
  function update() {
    const matching = filter();
    sort();
    draw(matching);
  }

  // The address.
  function address() {
    const parameters = new URLSearchParams();
    for (const name of [...FILTERS, "sort", "page"]) if (state[name]) parameters.set(name, state[name]);
    return `#${parameters}`;
  }
  let waiting = 0;
  function keep(replaces) {
    clearTimeout(waiting);
    waiting = 0;
    const now = address();
    if (now === location.hash || (now === "#" && !location.hash)) return;
    history[replaces ? "replaceState" : "pushState"](null, "", now);
  }
  function change(name, value, later = false) {
    state = { ...state, [name]: value, page: name === "page" ? value : "" };
    update();
    if (!later) return keep(false);
    if (waiting) clearTimeout(waiting);
    else if (!typing) { typing = true; keep(false); return; }
    waiting = setTimeout(() => keep(true), WAIT);
  }
  let typing = false;
  function arrive() {
    const hash = location.hash.slice(1);
    if (hash && !hash.includes("=")) return;
    const parameters = new URLSearchParams(hash);
    state = Object.fromEntries(parameters);
    for (const name of FILTERS) {
      const one = field(name);
      if (one.type === "checkbox") one.checked = Boolean(state[name]);
      else {
        one.value = state[name] ?? "";
        if (one.value !== (state[name] ?? "")) state[name] = one.value;
      }
    }
    update();
  }

  // What people do.
  form.addEventListener("input", (event) => {
    const one = event.target;
    if (one === order) change("sort", one.value);
    else if (one.type === "checkbox") change(one.name, one.checked ? "1" : "");
    else change(one.name, one.value, one.tagName === "INPUT");
  });
  form.addEventListener("focusout", () => { typing = false; });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    clearTimeout(waiting);
    state = {};
    keep(false);
    arrive();
    field("q").focus();
  });
  pager.addEventListener("click", (event) => {
    const step = event.target.dataset.step;
    if (!step) return;
    change("page", String(page + 1 + Number(step)));
    document.getElementById("neurons").scrollIntoView();
    links()[0]?.focus({ preventScroll: true });
  });
  const links = () => [...table.querySelectorAll("tbody th a")];
  document.addEventListener("keydown", (event) => {
    const at = document.activeElement, typed = at?.matches("input, select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && !typed) {
      field("q").focus();
      field("q").select();
    } else if (event.key === "Escape" && at === field("q") && at.value) {
      at.value = "";
      change("q", "");
    } else if (event.key === "ArrowDown" && at === field("q")) links()[0]?.focus();
    else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && at?.closest("#rows tbody")) {
      const all = links(), next = all.indexOf(at) + (event.key === "ArrowDown" ? 1 : -1);
      if (next < 0) field("q").focus();
      else all[next]?.focus();
    } else return;
    event.preventDefault();
  });
  window.addEventListener("popstate", arrive);
  for (const link of document.querySelectorAll(".cards a[href^='#']")) {
    link.addEventListener("click", () => setTimeout(() => document.getElementById("neurons").scrollIntoView()));
  }

  // Heads that sort, and the same as a list, for narrow windows, where the table has no head.
  const order = make("select", "");
  order.name = "order";
  order.append(new Option("as in the report", ""));
  const UP = ["neuron", "class", "text", "verdict"];
  for (const [name, head] of heads) {
    const text = head.textContent, button = make("button", "", text);
    head.dataset.label = text;
    button.type = "button";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const [now, descending] = sorting(), first = UP.includes(name) ? name : `-${name}`, second = UP.includes(name) ? `-${name}` : name;
      change("sort", now !== name ? first : state.sort === first ? second : "");
    });
    const ways = UP.includes(name) ? [["", " ↑"], ["-", " ↓"]] : [["-", " ↓"], ["", " ↑"]];
    for (const [sign, arrow] of ways) order.append(new Option(text + arrow, sign + name));
  }
  form.insertBefore(make("label", "order", "order ", order), form.querySelector("button"));
  form.hidden = false;
  arrive();
})();

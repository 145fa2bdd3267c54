"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const KEYS = [..."1234567890abcdefghijklmnopqrstuvwxyz"];
  const RECENT_KEYS = [..."123456789"];
  const AT_ONCE = 20;
  const MOST_LISTED = 80;
  const AHEAD = 4;
  const MOST_GROWTH = 12; // times; larger, a tiny image is harder to make out

  let view = null;
  let at = 0;
  let many = false; // the grid is shown
  let cells = [];
  let cell = 0;
  let busy = false;
  let query = "";
  let lit = 0; // the class that Enter takes from the filter
  const recent = []; // classes in the places of their keys, which do not move
  let order = []; // the same, the longest unused first
  let ready = false; // the image is there to be seen
  const watch = { since: null, spent: 0 };

  // time that the image is looked at; it stands still while the page is hidden
  const start = () => { watch.spent = 0; watch.since = document.hidden ? null : performance.now(); };
  const seconds = () => (watch.spent + (watch.since === null ? 0 : performance.now() - watch.since)) / 1000;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && watch.since !== null) { watch.spent += performance.now() - watch.since; watch.since = null; }
    else if (!document.hidden && watch.since === null) watch.since = performance.now();
  });

  async function call(path, body) {
    const options = body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    };
    let response;
    try {
      response = await fetch(path, options);
    } catch {
      throw new Error("The server does not answer. Is fkal label still running? Nothing was lost; try again.");
    }
    const value = await response.json();
    if (!response.ok) throw new Error(value.error);
    return value;
  }

  const banner = (text) => { $("banner").textContent = text || ""; $("banner").hidden = !text; };
  const open = () => view.items.filter((item) => !item.answer);
  const current = () => view.items[at];
  const isLong = () => view.classes.length > KEYS.length;
  const imageUrl = (item, small) => `image/${view.run}/${item.row}${small ? "/small" : ""}`;
  const breakable = (name) => name.replace(/([_\-./])/g, "$1\u200b");
  const percent = (p) => `${Math.round(100 * p)} %`;

  function element(tag, text, name) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  function button(text, key, act) {
    const made = element("button");
    made.type = "button";
    made.append(element("span", text));
    if (key) made.append(element("kbd", key));
    onPress(made, act);
    return made;
  }

  // after a click the keys are the page's again
  function onPress(made, act) {
    made.addEventListener("click", (event) => { if (event.detail) made.blur(); act(event); });
  }

  function showPicture(img, url, failed, shown) {
    img.onload = shown || null;
    img.onerror = failed || null;
    img.src = url;
  }

  // ---- answers

  async function send(answers) {
    if (busy || !answers.length) return false;
    busy = true;
    try {
      const told = await call("answer", { run: view.run, answers });
      if (told.classes) view.classes = told.classes;
      const byRow = new Map(view.items.map((item) => [item.row, item]));
      for (const { row, ...answer } of answers) {
        byRow.get(row).answer = answer;
        if (answer.status === "labeled") use(answer.label);
      }
      banner("");
      return true;
    } catch (error) {
      banner(error.message);
      return false;
    } finally {
      busy = false;
    }
  }

  function use(label) {
    if (!recent.includes(label)) recent[recent.length < RECENT_KEYS.length ? recent.length : recent.indexOf(order[0])] = label;
    order = [...order.filter((each) => each !== label && recent.includes(each)), label];
  }

  async function answer(status, label = "", reason = "") {
    if (many) { change(status, label, reason); return; }
    const item = current();
    if (!ready && status !== "skipped") return; // nobody labels what was not seen
    if (await send([{ row: item.row, status, label, reason, seconds: seconds() }])) next();
  }

  function next() {
    const n = view.items.length;
    for (let step = 1; step <= n; step += 1) {
      const place = (at + step) % n;
      if (!view.items[place].answer) { at = place; show(); return; }
    }
    showEnd();
  }

  async function undo() {
    if (busy) return;
    busy = true;
    try {
      const told = await call("undo", { run: view.run });
      banner(told.rows.length ? "" : "There is nothing of yours to take back in this batch.");
      if (told.rows.length) {
        const rows = new Set(told.rows);
        view = await call("state");
        at = Math.max(0, view.items.findIndex((item) => rows.has(item.row)));
        show();
      }
    } catch (error) {
      banner(error.message);
    } finally {
      busy = false;
    }
  }

  // ---- one image

  function show() {
    $("main").hidden = false;
    $("end").hidden = true;
    $("main").classList.toggle("many", many);
    $("one").hidden = many;
    $("grid").hidden = !many;
    $("grid-card").hidden = !many;
    $("view").firstChild.textContent = many ? "One" : "Grid";
    clearFilter();
    if (many) showGrid(); else showOne();
    showClasses();
    showFacts();
    start();
  }

  function showOne() {
    const item = current();
    $("no-image").hidden = true;
    $("image").hidden = false;
    $("image").alt = `image ${at + 1}`;
    ready = false;
    showPicture($("image"), imageUrl(item), () => explain(item), seen);
    $("name").textContent = item.name;
    $("name").title = item.name;
    $("given").hidden = !item.answer;
    if (item.answer) $("given").textContent = `answer: ${said(item.answer)}`;
    $("guess-card").hidden = !item.guess && item.match === null;
    document.querySelector(".guess").hidden = !item.guess;
    $("guess").textContent = breakable(item.guess);
    const p = item.probability;
    $("probability").textContent = p === null ? "" : `${percent(p)} probable`;
    $("meter-bar").hidden = p === null;
    $("meter").style.width = `${100 * (p || 0)}%`;
    $("match").hidden = item.match === null;
    if (item.match !== null) {
      showPicture($("match-image"), `match/${view.run}/${item.row}/small`, () => { $("match").hidden = true; });
      $("match-image").alt = `validation image of class ${item.match}`;
      $("match-label").textContent = breakable(item.match);
    }
    preload();
  }

  function seen() {
    ready = true;
    $("image").style.maxHeight = `${MOST_GROWTH * $("image").naturalHeight}px`;
    start();
  }

  async function explain(item) {
    if (item !== current() || many) return;
    $("image").hidden = true;
    $("no-image").hidden = false;
    try {
      await call(imageUrl(item));
      $("no-image").textContent = "This image cannot be shown here.";
    } catch (error) {
      $("no-image").textContent = error.message;
    }
  }

  function preload() {
    open().filter((item) => view.items.indexOf(item) > at).slice(0, AHEAD).forEach((item) => {
      new Image().src = imageUrl(item);
      if (item.match !== null) new Image().src = `match/${view.run}/${item.row}/small`;
    });
  }

  const said = (given) => given.status === "labeled" ? given.label
    : given.status === "skipped" ? `skipped (${given.reason})` : "none of these";

  function move(step) {
    const n = view.items.length;
    at = (at + step + n) % n;
    show();
  }

  // ---- twenty at once

  function showGrid() {
    const rest = open().slice(0, AT_ONCE);
    if (!rest.length) { many = false; showEnd(); return; }
    cells = rest.map((item) => ({ item, given: item.guess ? { status: "labeled", label: item.guess, reason: "" } : null, changed: false }));
    cells.sort((a, b) => a.item.guess.localeCompare(b.item.guess) || a.item.row - b.item.row);
    cell = 0;
    $("guess-card").hidden = true;
    $("grid").replaceChildren(...cells.map(drawCell));
    markCells();
  }

  function drawCell(each, place) {
    const made = element("button", undefined, "cell");
    made.type = "button";
    made.tabIndex = -1;
    made.setAttribute("role", "option");
    const img = element("img");
    img.alt = each.item.name;
    showPicture(img, imageUrl(each.item, true));
    made.append(img, element("span"), element("small"));
    onPress(made, () => { if (cell === place) toggle(); cell = place; markCells(); });
    made.addEventListener("dblclick", () => { many = false; at = view.items.indexOf(each.item); show(); });
    each.box = made;
    return made;
  }

  function markCells() {
    cells.forEach((each, place) => {
      each.box.setAttribute("aria-selected", String(place === cell));
      each.box.classList.toggle("out", !each.given);
      each.box.classList.toggle("changed", each.changed && Boolean(each.given));
      each.box.querySelector("span").textContent = each.given ? breakable(said(each.given)) : "left out";
      const p = each.item.probability;
      each.box.querySelector("small").textContent = each.changed || !each.given || p === null ? "" : percent(p);
    });
    cells[cell].box.scrollIntoView({ block: "nearest" });
    const n = cells.filter((each) => each.given).length;
    $("confirm-all").firstChild.textContent = n === 1 ? "Confirm 1 answer" : `Confirm ${n} answers`;
    $("confirm-all").disabled = n === 0;
    $("grid-hint").textContent = matchMedia("(pointer: coarse)").matches
      ? "Sorted by guess. Tap an image and a class to correct it; tap it again to leave it out."
      : "Sorted by guess. Arrows move, a class corrects, space leaves an image out.";
  }

  function toggle() {
    const each = cells[cell];
    each.given = each.given ? null : (each.item.guess ? { status: "labeled", label: each.item.guess, reason: "" } : null);
    each.changed = false;
    markCells();
  }

  function change(status, label, reason) {
    const each = cells[cell];
    each.given = { status, label, reason };
    each.changed = label !== each.item.guess || status !== "labeled";
    cell = Math.min(cell + 1, cells.length - 1);
    clearFilter();
    showClasses();
    markCells();
  }

  async function confirmAll() {
    const given = cells.filter((each) => each.given);
    const each = seconds() / Math.max(1, given.length);
    if (await send(given.map(({ item, given: answer }) => ({ row: item.row, ...answer, seconds: each })))) {
      if (open().length) show(); else showEnd();
    }
  }

  function moveCell(key) {
    const columns = getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    const place = cell + step;
    if (place >= 0 && place < cells.length) { cell = place; markCells(); }
  }

  // ---- classes

  function listed() {
    if (!query) return isLong() ? [...new Set([...recent, ...view.classes])] : view.classes;
    const wanted = query.toLowerCase();
    const rank = (name) => {
      const text = name.toLowerCase();
      if (text === wanted) return 0;
      if (text.startsWith(wanted)) return 1;
      const place = text.indexOf(wanted);
      return place < 0 ? 9 : /[\s_\-.,/(]/.test(text[place - 1]) ? 2 : 3;
    };
    return view.classes.map((name, i) => [rank(name), i, name]).filter(([r]) => r < 9)
      .sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, , name]) => name);
  }

  // digits begin the names of some classes: then they are typed, and are no keys of their own
  const usedLast = () => view.classes.some((name) => /^\d/.test(name)) ? [] : recent;
  const keyOf = (name) => isLong() ? RECENT_KEYS[usedLast().indexOf(name)] : KEYS[view.classes.indexOf(name)];
  const exact = () => view.classes.some((name) => name.toLowerCase() === query.trim().toLowerCase());

  function showClasses() {
    const names = listed();
    const item = many ? null : current();
    const shown = names.slice(0, MOST_LISTED);
    lit = Math.min(lit, Math.max(0, shown.length - 1));
    const buttons = shown.map((name, i) => {
      const made = button(breakable(name), keyOf(name), () => answer("labeled", name));
      made.setAttribute("role", "option");
      made.title = name;
      made.setAttribute("aria-selected", String(Boolean(query) && i === lit));
      if (item && item.guess === name) made.classList.add("guessed");
      return made;
    });
    if (query.trim() && view.newClasses && !exact()) buttons.push(button(`New class: ${query.trim()}`, "Shift Enter", addClass));
    $("classes").replaceChildren(...buttons);
    const more = names.length - shown.length;
    $("more").hidden = more <= 0 && (names.length > 0 || !query || view.newClasses);
    $("more").textContent = more > 0 ? `and ${more} more; type to find them`
      : "No class has this name. Start with --allow-new-class to add one.";
    $("find").hidden = view.classes.length <= 10 && !view.newClasses && !query;
    $("filter").placeholder = isLong() ? `Type to find one of ${view.classes.length} classes` : "Find a class";
  }

  const addClass = () => { if (query.trim() && view.newClasses && !exact()) answer("labeled", query.trim()); };
  const clearFilter = () => { query = ""; lit = 0; $("filter").value = ""; $("filter").blur(); };

  $("filter").addEventListener("input", () => { query = $("filter").value; lit = 0; showClasses(); });
  $("filter").addEventListener("keydown", (event) => {
    const names = listed().slice(0, MOST_LISTED);
    if (event.key === "Enter") {
      event.preventDefault();
      if (event.shiftKey) addClass();
      else if (query && names.length) answer("labeled", names[lit]);
    } else if (event.key === "Escape") { clearFilter(); showClasses(); }
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const n = Math.max(1, names.length);
      lit = (lit + (event.key === "ArrowDown" ? 1 : n - 1)) % n;
      showClasses();
      const chosen = $("classes").querySelector('[aria-selected="true"]');
      if (chosen) chosen.scrollIntoView({ block: "nearest" });
    }
    event.stopPropagation();
  });

  function find(letter) {
    $("find").hidden = false;
    $("filter").focus();
    if (letter) { $("filter").value = letter; query = letter; lit = 0; showClasses(); }
  }

  // ---- progress

  const duration = (s) => s < 90 ? `${Math.max(1, Math.round(s))} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;

  function showFacts() {
    const done = view.items.filter((item) => item.answer);
    const timed = done.map((item) => item.answer.seconds).filter((s) => typeof s === "number");
    const mean = timed.length ? timed.reduce((a, b) => a + b, 0) / timed.length : null;
    const left = view.items.length - done.length;
    const facts = [`${done.length} of ${view.items.length}`];
    if (mean !== null) facts.push(`${mean.toFixed(1)} s per label`);
    if (mean !== null && left) facts.push(`about ${duration(mean * left)} left`);
    $("facts").textContent = facts.join("  ·  ");
    $("thread").style.width = `${100 * done.length / Math.max(1, view.items.length)}%`;
    document.title = `${done.length}/${view.items.length} · ${view.project}`;
  }

  function showEnd() {
    showFacts();
    $("main").hidden = true;
    $("end").hidden = false;
    const counts = { labeled: 0, skipped: 0, none_of_these: 0 };
    view.items.forEach((item) => { counts[item.answer.status] += 1; });
    $("end-title").textContent = view.items.length ? "All done" : "Nothing to label here";
    const parts = [`${counts.labeled} labeled`];
    if (counts.none_of_these) parts.push(`${counts.none_of_these} of no class`);
    if (counts.skipped) parts.push(`${counts.skipped} skipped`);
    $("end-text").textContent = `Batch ${view.batch}: ${parts.join(", ")}. Every answer is in labels.csv.`;
    $("end-next").textContent = view.annotators > 1 ? "" : `next: ${view.next}`;
    $("review").hidden = !view.items.length;
  }

  // ---- dialogs

  function askReason() {
    $("reason").value = "";
    $("reasons").replaceChildren(...view.skipReasons.map((text, i) => button(text, String(i + 1), () => skip(text))));
    $("skip-dialog").showModal();
    $("skip-dialog").focus();
  }
  function skip(text) { $("skip-dialog").close(); answer("skipped", "", text); }
  $("reason-form").addEventListener("submit", (event) => {
    const text = $("reason").value.trim();
    event.preventDefault();
    if (text) skip(text); else $("reason").focus();
  });
  $("skip-dialog").addEventListener("keydown", (event) => {
    if (event.target === $("reason") || event.ctrlKey || event.metaKey || event.altKey) return;
    const text = view.skipReasons[Number(event.key) - 1];
    if (text) { event.preventDefault(); skip(text); }
  });

  function showHelp() {
    const keys = [
      ["Enter", many ? "confirm all that are not left out" : "confirm the guess"],
      [isLong() ? "1-9" : "1-9 0 a-z", isLong() ? "one of the classes used last" : "the class with this key"],
      [isLong() ? "a-z" : "/", "find a class by its name"],
      [".", "none of these classes"], ["-", "skip, with a reason"], ["⌫", "take the last answer back"],
      ["← →", many ? "move between images" : "look at the image before or after"],
      [",", "twenty at once, or one"], ["Space", many ? "leave the image out, or take it in" : "confirm the guess"],
    ];
    if (isLong() && !usedLast().length && recent.length) keys.splice(1, 1);
    if (view.newClasses) keys.push(["Shift Enter", "in the filter: add a new class"]);
    $("keys").replaceChildren(...keys.flatMap(([key, text]) => {
      const term = element("dt");
      term.append(element("kbd", key));
      return [term, element("dd", text)];
    }));
    $("help").showModal();
  }

  // ---- keys

  const confirmGuess = () => { const { guess } = current(); if (guess) answer("labeled", guess); };
  const turn = () => { many = !many; if (many && !open().length) many = false; show(); };

  document.addEventListener("keydown", (event) => {
    if (!view || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (document.querySelector("dialog[open]")) return;
    const onButton = document.activeElement && document.activeElement.tagName === "BUTTON";
    if (onButton && (event.key === "Enter" || event.key === " ")) return;
    if (!$("end").hidden) { if (event.key === "Backspace") { event.preventDefault(); undo(); } return; }
    const act = action(event.key);
    if (act) { event.preventDefault(); act(); }
  });

  function action(key) {
    const fixed = {
      Enter: many ? confirmAll : confirmGuess, " ": many ? toggle : confirmGuess, Backspace: undo, "-": askReason, ".": () => answer("none_of_these"),
      ",": turn, "/": () => find(""), "?": showHelp,
    };
    if (fixed[key]) return fixed[key];
    if (key.startsWith("Arrow")) return many ? () => moveCell(key) : { ArrowLeft: () => move(-1), ArrowRight: () => move(1) }[key];
    if ([...key].length !== 1) return undefined;
    if (isLong()) {
      const used = usedLast()[RECENT_KEYS.indexOf(key)];
      if (used) return () => answer("labeled", used);
      return /[\p{L}\p{N}]/u.test(key) ? () => find(key) : undefined;
    }
    const name = view.classes[KEYS.indexOf(key.toLowerCase())];
    if (name !== undefined && KEYS.includes(key.toLowerCase())) return () => answer("labeled", name);
    return /\p{L}/u.test(key) && view.newClasses ? () => find(key) : undefined;
  }

  onPress($("confirm"), confirmGuess);
  onPress($("confirm-all"), confirmAll);
  onPress($("none"), () => answer("none_of_these"));
  onPress($("skip"), askReason);
  onPress($("undo"), undo);
  onPress($("end-undo"), undo);
  onPress($("view"), turn);
  onPress($("help-button"), () => { if (view) showHelp(); });
  onPress($("review"), () => { many = false; at = 0; show(); });

  // ---- start

  async function begin() {
    const token = new URLSearchParams(location.hash.slice(1)).get("join");
    try {
      if (token) {
        history.replaceState(null, "", location.pathname);
        await call("join", { token });
      }
      view = await call("state");
    } catch (error) {
      banner(error.message);
      return;
    }
    $("project").textContent = view.project;
    $("batch").textContent = `batch ${view.batch}${view.annotators > 1 ? ` · ${view.annotator}` : ""}`;
    view.items.forEach((item) => { if (item.answer && item.answer.status === "labeled") use(item.answer.label); });
    at = view.items.length - 1;
    if (!view.items.length) showEnd(); else next();
  }
  begin();
})();

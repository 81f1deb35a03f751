// Light, dark, or as the system has it.

const NAMES = { auto: "as the system", light: "light", dark: "dark" };
const KEY = "covidmm theme";

export function setUpTheme(button) {
  const order = Object.keys(NAMES);
  let theme = stored() in NAMES ? stored() : "auto";
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    button.setAttribute("aria-label", `Theme: ${NAMES[theme]}`);
  };
  button.addEventListener("click", () => {
    theme = order[(order.indexOf(theme) + 1) % order.length];
    try {
      localStorage.setItem(KEY, theme);
    } catch { /* a private window may refuse */ }
    apply();
  });
  apply();
}

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

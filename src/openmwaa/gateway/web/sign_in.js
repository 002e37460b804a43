"use strict";
// The token is in the fragment, which browsers never send: read it, post it, forget it.
(() => {
  const { login, home } = document.body.dataset;

  const show = (state) => {
    let heading = null;
    for (const part of document.querySelectorAll("[data-state]")) {
      part.hidden = !part.dataset.state.split(" ").includes(state);
      heading ??= part.hidden ? null : part.querySelector("h1");
    }
    heading?.focus();
  };

  const fail = (reason) => {
    document.getElementById("reason").textContent = reason;
    show("failed");
  };

  const signIn = async () => {
    const token = location.hash.slice(1);
    if (!token) return;
    history.replaceState(null, "", location.pathname);
    show("working");
    let answer;
    try {
      answer = await fetch(login, {
        method: "POST",
        body: new URLSearchParams({ token }),
        credentials: "same-origin",
        redirect: "error",
      });
    } catch {
      fail("The service could not be reached. Check your connection and ask for a new link.");
      return;
    }
    if (answer.ok) {
      location.replace(home);
    } else if (answer.status === 403) {
      fail("This sign-in link has expired or is not for this environment. Ask for a new one.");
    } else {
      fail(`The service answered with an error (${answer.status}). Try again in a moment with a new link.`);
    }
  };

  addEventListener("hashchange", signIn);
  signIn();
})();

// The page behind a one-time link: a first administrator, or somebody who lost
// everything, chooses a password and enrols passcodes. The link's secret is in the
// fragment of the address, which browsers do not send, and goes on in the body of a
// request. Nothing is kept: the session's token lives as long as the page.
"use strict";

const texts = {
  en: {
    first: "Choose the user name and the password of the first administrator.",
    password: "Choose a new password. The passcodes you had before no longer count.",
    userName: "User name", password_: "Password", repeat: "The same password again", continue: "Continue",
    differ: "The two passwords are different.", bad: "This link is not good, or no longer: ask for a new one.",
    enrol: "Scan the picture with an authenticator app, and enter the code that the app shows.",
    key: "Without a camera, enter this key:", code: "Code", confirm: "Confirm",
    done: "Done. Each of these recovery codes lets you in once when the app is out of reach.",
    keep: "Keep them where nobody else finds them: they are shown this once.",
    ready: "Done. You can sign in.", failed: "The server did not answer. Try again.",
  },
  sv: {
    first: "Välj användarnamn och lösenord för den första administratören.",
    password: "Välj ett nytt lösenord. De engångskoder du hade gäller inte längre.",
    userName: "Användarnamn", password_: "Lösenord", repeat: "Samma lösenord igen", continue: "Fortsätt",
    differ: "Lösenorden är olika.", bad: "Länken gäller inte, eller inte längre: be om en ny.",
    enrol: "Skanna bilden med en autentiseringsapp och skriv koden som appen visar.",
    key: "Utan kamera, skriv in den här nyckeln:", code: "Kod", confirm: "Bekräfta",
    done: "Klart. Var och en av de här återställningskoderna släpper in dig en gång när appen inte är till hands.",
    keep: "Förvara dem där ingen annan hittar dem: de visas bara den här gången.",
    ready: "Klart. Du kan logga in.", failed: "Servern svarade inte. Försök igen.",
  },
};
const lang = (navigator.languages || [navigator.language]).map(l => l.slice(0, 2)).find(l => texts[l]) || "en";
const text = texts[lang];
const $ = id => document.getElementById(id);

let token = "";

function say(lead) { $("lead").textContent = lead; }
function complain(message) {
  $("error").textContent = message;
  $("error").hidden = message === "";
}

// call asks the server and returns what it answers, or throws what to tell people.
async function call(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (token !== "") headers.Authorization = "Bearer " + token;
  let response;
  try {
    response = await fetch("/auth/v1" + path, { method: "POST", headers, body: JSON.stringify(body), cache: "no-store", credentials: "omit" });
  } catch {
    throw new Error(text.failed);
  }
  const answer = response.status === 204 ? {} : await response.json().catch(() => ({}));
  if (!response.ok) {
    if (answer.type === "urn:roster:problem:sign-in-failed") throw new Error(text.bad);
    throw new Error([answer.title, answer.detail].filter(Boolean).join(": ") || text.failed);
  }
  return answer;
}

function onSubmit(form, fn) {
  $(form).addEventListener("submit", async event => {
    event.preventDefault();
    const button = $(form).querySelector("button");
    button.disabled = true;
    complain("");
    try {
      await fn(new FormData($(form)));
    } catch (e) {
      complain(e.message);
    } finally {
      button.disabled = false;
    }
  });
}

async function start() {
  document.documentElement.lang = lang;
  for (const e of document.querySelectorAll("[data-text]")) {
    e.textContent = text[e.dataset.text === "password" ? "password_" : e.dataset.text];
  }
  const link = location.hash.slice(1);
  let kind;
  try {
    kind = (await call("/setup/link", { link })).kind;
  } catch (e) {
    complain(e.message);
    return;
  }
  const first = kind === "first";
  say(first ? text.first : text.password);
  $("name-row").hidden = !first;
  $("account").elements.userName.required = first;
  $("account").hidden = false;

  let password;
  onSubmit("account", async form => {
    password = form.get("password");
    if (password !== form.get("repeat")) throw new Error(text.differ);
    const body = { link, password };
    if (first) body.userName = form.get("userName");
    const session = await call("/setup", body);
    token = session.token;
    history.replaceState(null, "", location.pathname);
    $("account").hidden = true;
    if (!session.missing.includes("enrolment")) {
      say(text.ready);
      return;
    }
    const enrolment = await call("/totp", { password });
    $("qr").src = enrolment.qr;
    $("secret").textContent = enrolment.secret;
    say(text.enrol);
    $("enrol").hidden = false;
    $("enrol").elements.code.focus();
  });

  onSubmit("enrol", async form => {
    const enrolled = await call("/totp/confirm", { code: form.get("code") });
    $("enrol").hidden = true;
    say(text.done);
    $("codes").replaceChildren(...enrolled.recoveryCodes.map(c => {
      const li = document.createElement("li");
      li.textContent = c;
      return li;
    }));
    $("done").hidden = false;
  });
}

start();

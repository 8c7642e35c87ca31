// The page behind a one-time link: a first administrator, somebody who lost
// everything, or an invitee chooses a password and enrols passcodes. The link's secret is in the
// fragment of the address, which browsers do not send, and goes on in the body of a
// request. Nothing is kept: the session's token lives as long as the page.
"use strict";

const texts = {
  en: {
    first: "Choose the user name and the password of the first administrator.",
    renew: "Choose a new password. The passcodes you had before no longer count.",
    invited: (who, where) => (who ? who + " invites you" : "You are invited") + " to " + where + ". Choose a password to accept.",
    created: "Done. The account exists, and cannot be signed in to yet: ask whoever invited you.",
    given: "First name", family: "Last name",
    userName: "User name", password: "Password", repeat: "The same password again", continue: "Continue",
    differ: "The two passwords are different.", bad: "This link is not good, or no longer: ask for a new one.",
    enrol: "Scan the picture with an authenticator app, and enter the code that the app shows.",
    key: "Without a camera, enter this key:", code: "Code", confirm: "Confirm",
    done: "Done. Each of these recovery codes lets you in once when the app is out of reach.",
    keep: "Keep them where nobody else finds them: they are shown this once.",
    ready: "Done. You can sign in.", failed: "The server did not answer. Try again.",
  },
  sv: {
    first: "Välj användarnamn och lösenord för den första administratören.",
    renew: "Välj ett nytt lösenord. De engångskoder du hade gäller inte längre.",
    invited: (who, where) => (who ? who + " bjuder in dig" : "Du är inbjuden") + " till " + where + ". Välj ett lösenord för att tacka ja.",
    created: "Klart. Kontot finns, men det går inte att logga in än: fråga den som bjöd in dig.",
    given: "Förnamn", family: "Efternamn",
    userName: "Användarnamn", password: "Lösenord", repeat: "Samma lösenord igen", continue: "Fortsätt",
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
    e.textContent = text[e.dataset.text];
  }
  const link = location.hash.slice(1);
  const fields = $("account").elements;
  const show = (row, field, value) => {
    $(row).hidden = false;
    fields[field].value = value || "";
  };
  const invitation = location.pathname === "/invitation";
  let choosesName;
  try {
    if (invitation) {
      const i = await call("/invitations/look", { link });
      say(text.invited(i.inviter, i.organisation));
      show("name-row", "userName", i.userName || i.email);
      show("given-row", "givenName", i.name.givenName);
      show("family-row", "familyName", i.name.familyName);
      choosesName = !i.userName;
      fields.userName.readOnly = !choosesName;
    } else {
      choosesName = (await call("/setup/link", { link })).kind === "first";
      say(choosesName ? text.first : text.renew);
      $("name-row").hidden = !choosesName;
    }
  } catch (e) {
    complain(e.message);
    return;
  }
  fields.userName.required = choosesName;
  $("account").hidden = false;

  let password, session; // the session, once the account is there
  onSubmit("account", async form => {
    if (!session) {
      password = form.get("password");
      if (password !== form.get("repeat")) throw new Error(text.differ);
      const body = { link, password };
      if (choosesName) body.userName = form.get("userName");
      if (invitation) {
        body.name = { givenName: form.get("givenName"), familyName: form.get("familyName") };
        session = (await call("/invitations/accept", body)).session;
      } else {
        session = await call("/setup", body);
      }
      history.replaceState(null, "", location.pathname);
    }
    const finish = lead => {
      $("account").hidden = true;
      say(lead);
    };
    if (!session) {
      finish(text.created);
      return;
    }
    token = session.token;
    if (!session.missing.includes("enrolment")) {
      finish(text.ready);
      return;
    }
    // The link is used up: if this fails, the button begins here again.
    const enrolment = await call("/totp", { password });
    $("qr").src = enrolment.qr;
    $("secret").textContent = enrolment.secret;
    finish(text.enrol);
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

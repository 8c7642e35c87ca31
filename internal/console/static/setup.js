// The page behind a one-time link: a first administrator, somebody who lost
// everything, or an invitee chooses a password and enrols passcodes. The link's secret is in the
// fragment of the address, which browsers do not send, and goes on in the body of a
// request. Nothing is kept: the session's token lives as long as the page.
"use strict";

const texts = {
  en: {
    first: "Choose a user name and a password for the first administrator.",
    renew: "Choose a new password. Your previous passcodes no longer work.",
    invited: (who, where) => (who ? who + " invites you" : "You are invited") + " to " + where + ". Choose a password to accept.",
    created: "Done. The account exists, but cannot sign in yet: ask the person who invited you.",
    given: "First name", family: "Last name",
    userName: "User name", password: "Password", repeat: "The same password again", continue: "Continue",
    differ: "The two passwords are different.", bad: "This link is not valid, or no longer valid: ask for a new one.",
    none: "The link is incomplete: the part after # is missing. If you have not used it yet, open the complete link.",
    enrol: "Scan the picture with an authenticator app, and enter the code that the app shows.",
    key: "Without a camera, enter this key:", code: "Code", confirm: "Confirm", digits: "six digits",
    again: "That took too long. Scan the new picture; the app's entry for the previous one does not work.",
    over: "This page was open for too long. The password is set; ask the person who gave you the link how to continue.",
    done: "Done. If you lose the app, each of these recovery codes lets you in once, to enrol a new app; the lost app then stops working.",
    keep: "Keep them where nobody else can find them: they are shown only once.",
    ready: "Done. You can sign in.", failed: "The server did not respond as expected. Try again.",
    problems: { "The password, passcode or code was not accepted": "The code was not accepted." },
  },
  sv: {
    first: "Välj användarnamn och lösenord för den första administratören.",
    renew: "Välj ett nytt lösenord. De engångskoder du hade gäller inte längre.",
    invited: (who, where) => (who ? who + " bjuder in dig" : "Du är inbjuden") + " till " + where + ". Välj ett lösenord för att tacka ja.",
    created: "Klart. Kontot finns, men det går inte att logga in än: fråga den som bjöd in dig.",
    given: "Förnamn", family: "Efternamn",
    userName: "Användarnamn", password: "Lösenord", repeat: "Samma lösenord igen", continue: "Fortsätt",
    differ: "Lösenorden är olika.", bad: "Länken gäller inte, eller inte längre: be om en ny.",
    none: "Länken är inte hel: det som följer efter # saknas. Om du inte har använt den än, öppna hela länken.",
    enrol: "Skanna bilden med en autentiseringsapp och skriv koden som appen visar.",
    key: "Utan kamera, skriv in den här nyckeln:", code: "Kod", confirm: "Bekräfta", digits: "sex siffror",
    again: "Det tog för lång tid. Skanna den nya bilden: det som appen fick av den förra gäller inte.",
    over: "Sidan har väntat för länge. Lösenordet gäller; fråga den som gav dig länken hur du går vidare.",
    done: "Klart. Om appen går förlorad släpper en av de här återställningskoderna in dig en gång, så att du kan ställa in en ny; den förlorade gäller då inte längre.",
    keep: "Förvara dem där ingen annan hittar dem: de visas bara den här gången.",
    ready: "Klart. Du kan logga in.", failed: "Servern svarade inte som den skulle. Försök igen.",
    // What the server says on this page, a title or a detail, with # for a number.
    problems: {
      "Too many attempts to sign in from this address": "För många försök från den här adressen. Vänta en minut.",
      "The password, passcode or code was not accepted": "Koden godtogs inte.",
      "Passcodes of this account are not accepted any more": "Engångskoder för kontot godtas inte längre: för många var fel. Någon som får det måste återställa dem.",
      "There is an administrator": "Det finns redan en administratör.",
      "The password is not good enough": "Lösenordet duger inte.",
      "expected at least # characters": "Lösenordet är för kort: minst # tecken.",
      "expected a password that is not among the most common ones": "Lösenordet är ett av de vanligaste. Välj ett annat.",
      "expected at least # characters without repetition": "Lösenordet upprepar sig: minst # tecken utan upprepning.",
      "expected at least # characters beside names and addresses": "Lösenordet är för likt namn och adresser: minst # tecken utöver dem.",
      "password: expected at most # characters": "Lösenordet är för långt: högst # tecken.",
      "userName is already in use": "Användarnamnet är upptaget.",
      "there is an account with this user name or address already: choose another user name, or sign in if the account is yours":
        "Det finns redan ett konto med användarnamnet eller adressen: välj ett annat användarnamn, eller logga in om kontot är ditt.",
      "userName: is required": "Användarnamnet saknas.",
      "userName: expected no control characters and none that cannot be seen": "Användarnamnet har tecken som inte syns. Skriv det för hand.",
      "The request is not valid": "Något av det du skrev går inte att använda.",
    },
  },
};
const $ = id => document.getElementById(id);

let text, token = "";

// speak chooses the first language of some that the page has, and keeps to the one it
// speaks if it has none.
function speak(tags) {
  const lang = tags.map(t => t.trim().slice(0, 2).toLowerCase()).find(t => texts[t]) || document.documentElement.lang;
  text = texts[lang];
  document.documentElement.lang = lang;
  for (const e of document.querySelectorAll("[data-text]")) {
    e.textContent = text[e.dataset.text];
  }
  $("enrol").elements.code.title = text.digits;
}

function say(lead) { $("lead").textContent = lead; }
function complain(message) {
  $("error").textContent = message;
  $("error").hidden = message === "";
  if (message !== "") $("error").scrollIntoView({ block: "nearest" });
}

// told is a problem in the page's language: what exactly is wrong if there are words for it.
function told({ title, detail }) {
  for (const said of [detail, title].filter(Boolean)) {
    const numbers = said.match(/\d+/g);
    const words = text.problems[said.replace(/\d+/g, "#")];
    if (words) return words.replace(/#/g, () => numbers.shift());
  }
  return [title, detail].filter(Boolean).join(": ") || text.failed;
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
    if (response.status === 401) throw new Error(text.over);
    if (response.status >= 500) throw new Error(text.failed);
    throw Object.assign(new Error(told(answer)), { status: response.status });
  }
  return answer;
}

function onSubmit(form, fn) {
  $(form).addEventListener("submit", async event => {
    event.preventDefault();
    // A button that is disabled would lose the focus.
    const button = $(form).querySelector("button");
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    complain("");
    try {
      await fn(new FormData($(form)));
    } catch (e) {
      complain(e.message);
    } finally {
      button.ariaDisabled = "false";
    }
  });
}

// warn asks before somebody leaves an account that they could not sign in to.
function warn(event) { event.preventDefault(); }

async function start() {
  speak(navigator.languages || [navigator.language]);
  // Another link in the same tab loads nothing by itself.
  addEventListener("hashchange", () => location.reload());
  const link = location.hash.slice(1);
  if (link === "") {
    complain(text.none);
    return;
  }
  const fields = $("account").elements;
  const show = (row, field, value) => {
    $(row).hidden = false;
    fields[field].value = value || "";
  };
  const invitation = location.pathname === "/invitation";
  let choosesName, known;
  try {
    if (invitation) {
      const i = await call("/invitations/look", { link });
      known = i.name;
      speak((i.language || "").split(","));
      say(text.invited(i.inviter, i.organisation));
      show("name-row", "userName", i.userName || i.email);
      show("given-row", "givenName", i.name.givenName);
      show("family-row", "familyName", i.name.familyName);
      choosesName = !i.userName;
      fields.userName.readOnly = !choosesName;
    } else {
      const { kind, language } = await call("/setup/link", { link });
      choosesName = kind === "first";
      speak((language || "").split(","));
      say(choosesName ? text.first : text.renew);
      $("name-row").hidden = !choosesName;
    }
  } catch (e) {
    complain(e.message);
    return;
  }
  fields.userName.required = choosesName;
  $("account").hidden = false;

  let password;
  async function enrol() {
    const enrolment = await call("/totp", { password });
    $("qr").src = enrolment.qr;
    $("secret").textContent = enrolment.secret;
    $("account").hidden = true;
    say(text.enrol);
    $("enrol").hidden = false;
    $("enrol").elements.code.focus();
  }

  // finish ends what the page is for; the focus would be nowhere otherwise.
  function finish(lead) {
    removeEventListener("beforeunload", warn);
    for (const form of ["account", "enrol"]) $(form).hidden = true;
    say(lead);
    $("lead").focus();
  }

  onSubmit("account", async form => {
    if (token !== "") { // the link is used up, and only the enrolment did not begin
      await enrol();
      return;
    }
    password = form.get("password");
    if (password !== form.get("repeat")) throw new Error(text.differ);
    const body = { link, password };
    if (choosesName) body.userName = form.get("userName");
    let session;
    if (invitation) {
      const name = { givenName: form.get("givenName"), familyName: form.get("familyName") };
      // What the inviter wrote stays whole unless it is wrong.
      if (Object.keys(name).some(part => name[part] !== (known[part] || ""))) body.name = name;
      session = (await call("/invitations/accept", body)).session;
    } else {
      session = await call("/setup", body);
    }
    history.replaceState(null, "", location.pathname);
    if (!session) {
      finish(text.created);
      return;
    }
    if (!session.missing.includes("enrolment")) {
      finish(text.ready);
      return;
    }
    token = session.token;
    addEventListener("beforeunload", warn);
    for (const field of fields) field.readOnly = true;
    await enrol();
  });

  onSubmit("enrol", async form => {
    let enrolled;
    try {
      enrolled = await call("/totp/confirm", { code: form.get("code").replace(/\s/g, "") });
    } catch (e) {
      if (e.status !== 409) throw e;
      // The picture is good for ten minutes, and an app may have to be found first.
      $("enrol").reset();
      await enrol();
      throw new Error(text.again);
    }
    $("codes").replaceChildren(...enrolled.recoveryCodes.map(c => {
      const li = document.createElement("li");
      li.textContent = c;
      return li;
    }));
    $("done").hidden = false;
    finish(text.done);
  });
}

start();

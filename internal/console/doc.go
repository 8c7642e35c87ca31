// Package console serves the pages for browsers. So far these are the pages behind
// one-time links: setup and recovery (see auth.NewSetup) and invitations. There the
// first administrator, a user who lost password and app, or an invitee chooses a
// password and enrols an authenticator app.
//
// A page has no privileges of its own: it uses the same API as any program. Scripts and
// styles are separate files, so that each page's Content-Security-Policy can forbid
// everything else.
package console

// Package console is what people see in a browser. So far that is one page: the
// one behind a one-time link (see auth.NewSetup) or that of an invitation, on which the
// first administrator, somebody who lost everything, or an invitee chooses a password
// and enrols passcodes.
//
// A page has no privileges of its own: it talks to the same API as every program.
// Scripts and styles are files of their own, so that the policy that goes with each
// page lets nothing else run.
package console

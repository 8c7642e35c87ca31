// Package auth says who is calling and what they may do.
//
// A SCIM request carries a bearer token (RFC 6750). [Verifier.Verify] takes it
// out of the Authorization header (bearer.go), checks its shape and checksum
// without asking anyone ([ParseToken], token.go), finds the client it belongs
// to (verifier.go) and answers with a [Principal]. From there the principal is
// an argument of everything done in its name: [Principal.May] says which kinds of
// request it may make (permission.go), and [Effect.Permitted] whether it may have
// the effects of a particular write (effect.go). The command line acts as an
// [Operator], because whoever has a shell on the host has the database anyway.
//
// Roles are built in, or custom and made of the same permissions (role.go). A
// [Grant] assigns one to a principal (grant.go), and an [Activation] makes an
// eligible one active for a while (activation.go). [EffectiveRoles] are the roles
// of a user at a time, [Holdings] lists who holds which. A [Standing] is what a
// write has to know of the roles of a user it changes (standing.go);
// [KeepAdministrator] protects the last Global Administrator (lastadmin.go).
//
// What callers may rely on:
//
//   - The zero Principal may do nothing, and neither may one without a tenant.
//   - A refusal reads the same whatever its cause; the cause is a [Reason] for
//     a metric. An error that is not a refusal means that nobody was let in
//     because the store could not be read.
//   - A malformed token is refused before the store is read. A token
//     is stored as its SHA-256 and compared in constant time.
//   - A revocation counts for this process at once after
//     [Verifier.Invalidate], and elsewhere after at most half a second more than
//     the store needs to show it.
//   - The errors of Verifier and Hasher contain nothing from the request.
//
// Passwords are hashed by a [Hasher], which limits the work that strangers can
// cause to the available cores (password.go). A [Credential] is what the store
// keeps to authenticate a user (credential.go).
//
// A person signs in with an [Authenticator] (signin.go): a password that the
// [Policy] accepts, then a passcode (totp.go) or a recovery code (recovery.go). The
// result is a session (session.go) of a [Level]. Each password or code is an attempt
// that is counted before it is checked, and settled with its outcome (attempt.go);
// proof.go has those given in a session, reset.go what others may do about a user's
// credentials. Secrets that have to be read back are sealed by a [KeyRing]
// (keyring.go). Conditional rules can require a passcode, or refuse: a [Rule] looks
// at the [SignInFacts] of an attempt (rule.go, judge.go), and can be tried on recorded
// ones (recorded.go). One-time links let in a first administrator, and a user who
// lost password and app (setup.go).
//
// For sign-in, callers may rely on this:
//
//   - A session of level MFA comes from a passcode that no other sign-in has used,
//     in any process, and a single function begins sessions.
//   - Every attempt is counted before it is checked, in one of the lanes of its
//     account (throttle.go), and recorded with its outcome.
//   - A refused sign-in does not say why, and takes the same time whatever the
//     reason.
//   - Sessions that end do so at once in this process, and in others after half a
//     second.
//
// The other files, by what they are about:
//
//   - clients and routes: clients.go makes clients and their tokens; gate.go is what a
//     route asks of callers
//   - tenants: tenant.go; link.go connects accounts of two tenants, and move.go takes a
//     session from one to the other
//   - passwords: policy.go, readable.go and handover.go for temporary ones, device.go
//     for what somebody has signed in from; invitation.go is the link of an invitation
//   - what people read: holdings.go and report.go; entry.go and told.go for the audit trail
//   - what a tenant has chosen: retention.go and vocabulary.go
//   - the life of the data: deleted.go, restored.go after a backup, verify.go for checks
//
// Begin with principal.go.
package auth

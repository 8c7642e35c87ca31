// Package auth says who is calling and what they may do.
//
// A SCIM request carries a bearer token (RFC 6750). [Verifier.Verify] takes it
// out of the Authorization header (bearer.go), checks its shape and checksum
// without asking anyone ([ParseToken], token.go), finds the client it belongs
// to (verifier.go) and answers with a [Principal]. From there the principal is
// an argument of everything done in its name: [Principal.May] says what it may
// try (permission.go), and [Effect.Permitted] whether it may bring about what a
// write would do (effect.go). The command line acts as an [Operator], because
// whoever has a shell on the host holds the database anyway.
//
// Roles are built in or made of the same permissions (role.go). A [Grant] gives one
// to somebody (grant.go), and an [Activation] makes an eligible one active for a
// while (activation.go). [EffectiveRoles] are what a user has at a time,
// [Holdings] who has what. A [Standing] is what every write has to know of them
// (standing.go); [KeepAdministrator] keeps the last Global Administrator
// (lastadmin.go).
//
// What callers may rely on:
//
//   - The zero Principal may do nothing, and neither may one without a tenant.
//   - A refusal reads the same whatever its cause; the cause is a [Reason] for
//     a metric. An error that is no refusal means that nobody was let in
//     because the store could not be asked.
//   - A token that is not whole is refused before the store is asked. A token
//     is stored as its SHA-256 and compared in constant time.
//   - A revocation counts for this process at once after
//     [Verifier.Invalidate], and elsewhere after at most half a second more than
//     the store needs to show it.
//   - The errors of Verifier and Hasher contain nothing that a request brought.
//
// Passwords are hashed by a [Hasher], which keeps the work that strangers can
// cause within the cores at hand (password.go). A [Credential] is what the store
// keeps of what proves who a user is (credential.go).
//
// A person signs in with an [Authenticator] (signin.go): a password that a [Policy]
// has let them choose, then a passcode (totp.go) or a recovery code (recovery.go),
// which come to a session (session.go) of a [Level]. Each proof is an attempt that is
// counted, and settled (attempt.go); proof.go has those that are given in a session,
// reset.go what others may do about somebody's. What has to be stored and read
// again is sealed by a [KeyRing] (keyring.go). Conditional rules can ask for a
// passcode, or refuse: a [Rule] looks at the [SignInFacts] of an attempt (rule.go,
// judge.go), and can be tried on those that are recorded (recorded.go). One-time links
// let in a first administrator, and whoever lost everything (setup.go).
//
//   - A session of level MFA comes from a passcode that no other sign-in has used,
//     in any process, and there is one function that begins sessions.
//   - Every attempt is counted before it is looked at, in one of the lanes of its
//     account (throttle.go), and recorded with what came of it.
//   - Who cannot sign in is not told why, and waits as long whatever the reason.
//   - What ends sessions ends them at once, and in other processes after half a
//     second.
//
// Begin with principal.go.
package auth

// Package testserver runs a whole Roster inside a test: a store in a temporary
// folder, or one the test opens, a client with a token, and the real HTTP server on a port of its own.
//
// It is a package of its own because of who needs it. The tests of scim and those
// of internal/server both do, so it stands above both, and neither can be tested
// with it from inside: such tests are in the packages scim_test and server_test.
// The runner of scripts in scimtest knows nothing of it, so that a program can
// play scripts without carrying a server along. Nothing but tests imports this
// package.
package testserver

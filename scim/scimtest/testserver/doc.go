// Package testserver runs a whole Roster inside a test: a store in a temporary
// folder, or one the test opens, a client with a token, and the real HTTP server on a port of its own.
//
// It is a separate package because the tests of scim and of internal/server both
// need it. It imports both, so tests that use it are in the packages scim_test and
// server_test. The runner of scripts in scimtest does not import it, so that a
// program can play scripts without linking a server. Only tests import this package.
package testserver

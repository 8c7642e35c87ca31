// Package access is how people come to roles and keep them, beside the roles themselves:
// requests for a role, which somebody else approves (request.go), and reviews, in which
// reviewers confirm or revoke what is held (review.go). Roles are given and taken by
// [scim.Provider] only, in the name of the person who decides, with all that it asks of
// them; what is decided is written in the same step.
//
// Both are storage items. Who is told by mail is in mail.go; reminder.go is what runs in
// the background.
package access

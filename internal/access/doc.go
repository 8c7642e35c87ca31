// Package access is about how people get roles and keep them: requests for a role, which
// somebody else approves (request.go), and reviews, in which reviewers confirm or revoke
// assignments (review.go). Only [scim.Provider] assigns and removes roles, in the name of
// the person who decides and with all its checks; the decision is recorded in the same step.
//
// Requests and reviews are storage items. mail.go notifies people; reminder.go runs in the
// background.
package access

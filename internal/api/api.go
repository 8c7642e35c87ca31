package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gorilla/mux"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/access"
	"github.com/roster-id/roster/internal/domains"
	"github.com/roster-id/roster/internal/events"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// Where the two surfaces are served.
const (
	AuthBase  = "/auth/v1"
	AdminBase = "/admin/v1"
)

// API is the two surfaces. Set the fields before the first request.
type API struct {
	Store   storage.Store
	Auth    *auth.Authenticator
	Clients *auth.ClientManager
	Mail    *mail.Queue
	Feeds   *events.Feeds
	// Directory makes accounts, of the types in Schemas, and brings back what was deleted.
	Directory Directory
	Domains   *domains.Keeper
	Schemas   *schemas.Set
	// Access is where roles are asked for and reviewed.
	Access *access.Desk
	Now    func() time.Time
	// InvitationLink is the address of the page on which an invitation is accepted, for
	// an inviter who hands it over.
	InvitationLink func(r *http.Request, secret auth.Secret) string
	Invitations    Invitations
	// Definitions is where the schemas that tenants define are kept.
	Definitions Definitions

	signIns rate
}

// Directory is where accounts are made, and come back to; see scim.Provider.
type Directory interface {
	Found(ctx context.Context, by auth.Principal, f scim.Founding) error
	CreateAccount(ctx context.Context, by auth.Principal, a scim.Account) (*storage.Resource, error)
	ListDeleted(ctx context.Context, by auth.Principal, t *schemas.ResourceType, q scim.DeletedQuery) (*scim.DeletedPage, error)
	GetDeleted(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string) (*scim.DeletedWhole, error)
	Restore(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, how scim.Restoration) (*storage.Resource, error)
	Purge(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string) error
}

// endpoint is a route with what goes in and comes out.
type endpoint struct {
	method, path string
	needs        auth.Need
	serve        func(http.ResponseWriter, *http.Request, auth.Principal) error
	in, out      any      // bodies, nil for none; documentation is held against them
	status       int      // of success
	query        []string // parameters of the query
}

// AuthRoutes is the route table below AuthBase: what people do for themselves.
func (a *API) AuthRoutes() []scim.Route { return routes(a.authEndpoints()) }

// AdminRoutes is the route table below AdminBase: what people do for others.
func (a *API) AdminRoutes() []scim.Route { return routes(a.adminEndpoints()) }

func (a *API) authEndpoints() []endpoint {
	anyone, somebody := auth.AnySession(), auth.AtLevel(auth.Password)
	return []endpoint{
		{"GET", "/openapi.json", auth.Public(), a.document, nil, nil, 200, nil},

		{"POST", "/sign-in", auth.Public(), a.signIn, SignInRequest{}, SignedIn{}, 200, nil},
		{"POST", "/setup/link", auth.Public(), a.setupLink, LinkRequest{}, Link{}, 200, nil},
		{"POST", "/setup", auth.Public(), a.setup, SetupRequest{}, SignedIn{}, 200, nil},
		{"POST", "/invitations/look", auth.Public(), a.invitation, LinkRequest{}, Invitation{}, 200, nil},
		{"POST", "/invitations/accept", auth.Public(), a.accept, AcceptanceRequest{}, Accepted{}, 200, nil},
		{"POST", "/passcode", anyone, a.passcode, CodeRequest{}, SignedIn{}, 200, nil},
		{"POST", "/recovery-code", anyone, a.recoveryCode, CodeRequest{}, SignedIn{}, 200, nil},
		{"POST", "/step-up", auth.AtLevel(auth.MFA), a.stepUp, CodeRequest{}, SignedIn{}, 200, nil},
		{"POST", "/sign-out", anyone, a.signOut, nil, nil, 204, nil},

		{"GET", "/session", anyone, a.session, nil, SignedIn{}, 200, nil},
		{"GET", "/sessions", somebody, a.sessions, nil, SessionList{}, 200, nil},
		{"DELETE", "/sessions", somebody, a.endSessions, nil, nil, 204, nil},
		{"DELETE", "/sessions/{id}", somebody, a.endSession, nil, nil, 204, nil},
		{"POST", "/session/return", auth.AtLevel(auth.MFA), a.returnSession, nil, SignedIn{}, 200, nil},

		{"GET", "/tenants", somebody, a.destinations, nil, DestinationList{}, 200, nil},
		{"POST", "/tenants/{id}/session", auth.Fresh(), a.move, nil, SignedIn{}, 200, nil},
		{"GET", "/account-links", somebody, a.ownLinks, nil, AccountLinkList{}, 200, nil},
		{"POST", "/account-links", auth.Fresh(), a.acceptLink, CodeRequest{}, AccountLink{}, 201, nil},
		{"POST", "/account-link-offers", auth.Fresh(), a.offerLink, nil, LinkOffer{}, 201, nil},
		{"DELETE", "/account-links/{id}", auth.AtLevel(auth.MFA), a.cutLink, nil, nil, 204, nil},

		{"POST", "/password", anyone, a.changePassword, PasswordRequest{}, SignedIn{}, 200, nil},
		{"POST", "/totp", anyone, a.enrol, EnrolmentRequest{}, Enrolment{}, 200, nil},
		{"POST", "/totp/confirm", anyone, a.confirmEnrolment, CodeRequest{}, Enrolled{}, 200, nil},
		{"POST", "/totp/check", somebody, a.checkPasscode, CodeRequest{}, nil, 204, nil},
		{"DELETE", "/totp", auth.Fresh(), a.removePasscodes, nil, SignedIn{}, 200, nil},

		{"GET", "/roles", somebody, a.ownRoles, nil, HoldingList{}, 200, nil},
		{"GET", "/roles/activations", somebody, a.activations, nil, ActivationList{}, 200, nil},
		{"POST", "/roles/activations", auth.Fresh(), a.activate, ActivationRequest{}, Activation{}, 201, nil},
		{"DELETE", "/roles/activations/{id}", auth.AtLevel(auth.MFA), a.deactivate, nil, nil, 204, nil},
		{"POST", "/roles/activations/{id}/approval", auth.Fresh(), a.approve, nil, Activation{}, 200, nil},

		{"GET", "/roles/catalogue", somebody, a.roleCatalogue, nil, RoleCatalogue{}, 200, nil},
		{"GET", "/roles/requests", somebody, a.ownRequests, nil, RoleRequestList{}, 200, nil},
		{"POST", "/roles/requests", somebody, a.requestRole, RoleRequestRequest{}, RoleRequest{}, 201, nil},
		{"DELETE", "/roles/requests/{id}", somebody, a.withdrawRequest, nil, nil, 204, nil},
		{"GET", "/roles/{id}/approvers", somebody, a.approvers, nil, ApproverList{}, 200, nil},
	}
}

func (a *API) adminEndpoints() []endpoint {
	return []endpoint{
		{"POST", "/users", auth.Admin(auth.PermissionUsersCreate), a.createAccount, AccountRequest{}, Account{}, 201, nil},
		{"POST", "/users/{id}/password-reset", auth.StepUp(auth.PermissionUsersPasswordReset), a.resetPassword, nil, TemporaryPassword{}, 200, nil},
		{"POST", "/users/{id}/mfa-reset", auth.StepUp(auth.PermissionUsersMFAReset), a.resetMFA, nil, nil, 204, nil},
		{"GET", "/users/{id}/sessions", auth.Admin(auth.PermissionUsersSessionsRead), a.userSessions, nil, SessionList{}, 200, nil},
		{"DELETE", "/users/{id}/sessions", auth.Admin(auth.PermissionUsersSessionsEnd), a.endUserSessions, nil, nil, 204, nil},

		{"GET", "/users/{id}/account-links", auth.Admin(auth.PermissionUsersSessionsRead), a.userLinks, nil, AccountLinkList{}, 200, nil},
		{"DELETE", "/users/{id}/account-links", auth.Admin(auth.PermissionUsersSessionsEnd), a.cutUserLinks, nil, nil, 204, nil},

		{"GET", "/tenants", auth.Admin(auth.PermissionTenantsRead), a.tenants, nil, TenantList{}, 200, nil},
		{"POST", "/tenants", auth.StepUp(auth.PermissionTenantsWrite), a.createTenant, TenantRequest{}, Tenant{}, 201, nil},
		{"PUT", "/tenants/{id}", auth.StepUp(auth.PermissionTenantsWrite), a.renameTenant, TenantName{}, Tenant{}, 200, nil},

		{"GET", "/domains", auth.Admin(auth.PermissionTenantsRead), a.domains, nil, DomainList{}, 200, nil},
		{"POST", "/domains", auth.StepUp(auth.PermissionTenantsWrite), a.addDomain, DomainRequest{}, Domain{}, 201, nil},
		{"GET", "/domains/{id}", auth.Admin(auth.PermissionTenantsRead), a.domain, nil, Domain{}, 200, nil},
		{"DELETE", "/domains/{id}", auth.StepUp(auth.PermissionTenantsWrite), a.removeDomain, nil, nil, 204, nil},
		{"POST", "/domains/{id}/verify", auth.StepUp(auth.PermissionTenantsWrite), a.verifyDomain, nil, Domain{}, 200, nil},
		{"POST", "/domains/{id}/primary", auth.StepUp(auth.PermissionTenantsWrite), a.makePrimary, nil, Domain{}, 200, nil},

		{"GET", "/domain-moves", auth.Admin(auth.PermissionTenantsRead), a.domainMoves, nil, DomainMoveList{}, 200, nil},
		{"POST", "/domain-moves", auth.StepUp(auth.PermissionTenantsWrite), a.beginDomainMove, DomainMoveRequest{}, DomainMove{}, 201, nil},
		{"POST", "/domain-move-previews", auth.Admin(auth.PermissionTenantsWrite), a.previewDomainMove, DomainMoveRequest{}, DomainMovePreview{}, 200, nil},
		{"GET", "/domain-moves/{id}", auth.Admin(auth.PermissionTenantsRead), a.domainMove, nil, DomainMove{}, 200, nil},
		{"POST", "/domain-moves/{id}/pause", auth.Admin(auth.PermissionTenantsWrite), a.pauseDomainMove, nil, DomainMove{}, 200, nil},
		{"POST", "/domain-moves/{id}/resume", auth.StepUp(auth.PermissionTenantsWrite), a.resumeDomainMove, nil, DomainMove{}, 200, nil},
		{"POST", "/domain-moves/{id}/cancel", auth.Admin(auth.PermissionTenantsWrite), a.cancelDomainMove, nil, DomainMove{}, 200, nil},

		{"PUT", "/users/{id}/emergency", auth.StepUp(auth.PermissionRolesAssignGlobal), a.markEmergency, EmergencyRequest{}, nil, 204, nil},

		{"POST", "/invitations", auth.Admin(auth.PermissionUsersInvite), a.invite, InvitationRequest{}, Invited{}, 201, nil},
		{"POST", "/invitations/{id}/resend", auth.Admin(auth.PermissionUsersInvite), a.sendAgain, nil, Invited{}, 200, nil},
		{"POST", "/invitations/{id}/revoke", auth.Admin(auth.PermissionUsersInvite), a.withdraw, nil, nil, 204, nil},

		{"GET", "/deleted-users", auth.Admin(auth.PermissionUsersRestore), a.ofType(auth.PrincipalUser, a.deletedList), nil, DeletedList{}, 200, deletedParameters},
		{"GET", "/deleted-users/{id}", auth.Admin(auth.PermissionUsersRestore), a.ofType(auth.PrincipalUser, a.deletedDetail), nil, DeletedDetail{}, 200, nil},
		{"POST", "/deleted-users/{id}/restore", auth.Admin(auth.PermissionUsersRestore), a.restoreUser, RestoreRequest{}, Restored{}, 200, nil},
		{"DELETE", "/deleted-users/{id}", auth.StepUp(auth.PermissionUsersPurge), a.ofType(auth.PrincipalUser, a.purge), nil, nil, 204, nil},
		{"GET", "/deleted-groups", auth.Admin(auth.PermissionGroupsRestore), a.ofType(auth.PrincipalGroup, a.deletedList), nil, DeletedList{}, 200, deletedParameters},
		{"GET", "/deleted-groups/{id}", auth.Admin(auth.PermissionGroupsRestore), a.ofType(auth.PrincipalGroup, a.deletedDetail), nil, DeletedDetail{}, 200, nil},
		{"POST", "/deleted-groups/{id}/restore", auth.Admin(auth.PermissionGroupsRestore), a.restoreGroup, GroupRestoreRequest{}, Restored{}, 200, nil},
		{"DELETE", "/deleted-groups/{id}", auth.StepUp(auth.PermissionGroupsPurge), a.ofType(auth.PrincipalGroup, a.purge), nil, nil, 204, nil},

		{"GET", "/policies/retention", auth.Admin(auth.PermissionPoliciesRead), a.retention, nil, auth.Retention{}, 200, nil},
		{"PUT", "/policies/retention", auth.StepUp(auth.PermissionPoliciesWrite), a.setRetention, auth.Retention{}, auth.Retention{}, 200, nil},

		{"GET", "/policies/vocabulary", auth.Admin(auth.PermissionPoliciesRead), a.vocabulary, nil, auth.Vocabulary{}, 200, nil},
		{"PUT", "/policies/vocabulary", auth.StepUp(auth.PermissionPoliciesWrite), a.setVocabulary, auth.Vocabulary{}, auth.Vocabulary{}, 200, nil},

		{"GET", "/rules", auth.Admin(auth.PermissionPoliciesRead), a.rules, nil, RuleList{}, 200, nil},
		{"POST", "/rules", auth.StepUp(auth.PermissionPoliciesWrite), a.createRule, auth.Rule{}, auth.Rule{}, 201, nil},
		{"POST", "/rule-trials", auth.Admin(auth.PermissionPoliciesRead), a.tryRule, auth.Rule{}, Trial{}, 200, nil},
		{"GET", "/rules/{id}", auth.Admin(auth.PermissionPoliciesRead), a.rule, nil, auth.Rule{}, 200, nil},
		{"PUT", "/rules/{id}", auth.StepUp(auth.PermissionPoliciesWrite), a.replaceRule, auth.Rule{}, auth.Rule{}, 200, nil},
		{"DELETE", "/rules/{id}", auth.StepUp(auth.PermissionPoliciesWrite), a.deleteRule, nil, nil, 204, nil},

		{"GET", "/schemas", auth.Admin(auth.PermissionSchemasRead), a.customSchemas, nil, CustomSchemaList{}, 200, nil},
		{"POST", "/schemas", auth.StepUp(auth.PermissionSchemasWrite), a.defineSchema, schemas.CustomSchema{}, schemas.CustomSchema{}, 201, nil},
		{"GET", "/schemas/{id}", auth.Admin(auth.PermissionSchemasRead), a.customSchema, nil, schemas.CustomSchema{}, 200, nil},
		{"PUT", "/schemas/{id}", auth.StepUp(auth.PermissionSchemasWrite), a.redefineSchema, schemas.CustomSchema{}, schemas.CustomSchema{}, 200, nil},
		{"DELETE", "/schemas/{id}", auth.StepUp(auth.PermissionSchemasWrite), a.undefineSchema, nil, nil, 204, nil},
		{"POST", "/schema-packs/{id}", auth.StepUp(auth.PermissionSchemasWrite), a.addSchemaPack, nil, CustomSchemaList{}, 201, nil},

		{"GET", "/users/{id}/roles", auth.Admin(auth.PermissionRolesRead), a.userRoles, nil, HoldingList{}, 200, nil},
		{"GET", "/roles/{id}/holders", auth.Admin(auth.PermissionRolesRead), a.holders, nil, HoldingList{}, 200, nil},
		{"GET", "/permissions", auth.Admin(auth.PermissionRolesRead), a.permissions, nil, PermissionList{}, 200, nil},
		{"GET", "/reports/role-holders", auth.Admin(auth.PermissionReportsRead), a.roleHolders, nil, RoleHolderReport{}, 200, holderParameters},
		{"GET", "/reports/privileged-accounts", auth.Admin(auth.PermissionReportsRead), a.privilegedAccounts, nil, PrivilegedReport{}, 200, formatParameter},
		{"GET", "/reports/mfa", auth.Admin(auth.PermissionReportsRead), a.mfaStatus, nil, MFAReport{}, 200, formatParameter},
		{"GET", "/reports/stale-accounts", auth.Admin(auth.PermissionReportsRead), a.staleAccounts, nil, StaleReport{}, 200, staleParameters},
		{"GET", "/reports/shared-accounts", auth.Admin(auth.PermissionReportsRead), a.sharedAccounts, nil, SharedReport{}, 200, sharedParameters},
		{"GET", "/reports/activations", auth.Admin(auth.PermissionReportsRead), a.activationReport, nil, ActivationReport{}, 200, formatParameter},
		{"GET", "/reviews", auth.Admin(auth.PermissionRolesRead), a.reviews, nil, ReviewList{}, 200, nil},
		{"POST", "/reviews", auth.StepUp(auth.PermissionRolesAssign), a.beginReview, ReviewRequest{}, Review{}, 201, nil},
		{"GET", "/reviews/{id}", auth.Admin(auth.PermissionRolesRead), a.review, nil, Review{}, 200, nil},
		{"GET", "/reviews/{id}/assignments", auth.Admin(auth.PermissionRolesRead), a.reviewed, nil, ReviewResult{}, 200, formatParameter},
		{"POST", "/reviews/{id}/decisions", auth.Admin(auth.PermissionRolesAssign), a.judge, ReviewDecision{}, ReviewedAssignment{}, 200, nil},
		{"POST", "/reviews/{id}/close", auth.StepUp(auth.PermissionRolesAssign), a.closeReview, CloseRequest{}, Review{}, 200, nil},

		{"GET", "/role-requests", auth.Admin(auth.PermissionRolesAssign), a.approvalQueue, nil, ApprovalQueue{}, 200, nil},
		{"POST", "/role-requests/{id}/decision", auth.Admin(auth.PermissionRolesAssign), a.decideRequest, RequestDecision{}, RoleRequest{}, 200, nil},
		{"GET", "/audit", auth.Admin(auth.PermissionAuditRead), a.audit, nil, Entries{}, 200, auditParameters},
		{"GET", "/audit/export", auth.StepUp(auth.PermissionAuditExport), a.exportAudit, nil, nil, 200, exportParameters},

		{"GET", "/mail", auth.Admin(auth.PermissionMailRead), a.mail, nil, MailList{}, 200, nil},
		{"POST", "/mail/{id}/retry", auth.Admin(auth.PermissionMailWrite), a.retryMail, nil, nil, 204, nil},
		{"DELETE", "/mail/{id}", auth.Admin(auth.PermissionMailWrite), a.discardMail, nil, nil, 204, nil},

		{"GET", "/feeds", auth.Admin(auth.PermissionFeedsRead), a.feeds, nil, FeedList{}, 200, nil},
		{"POST", "/feeds", auth.StepUp(auth.PermissionFeedsWrite), a.createFeed, FeedRequest{}, NewFeed{}, 201, nil},
		{"GET", "/feeds/{id}", auth.Admin(auth.PermissionFeedsRead), a.feed, nil, Feed{}, 200, nil},
		{"PATCH", "/feeds/{id}", auth.StepUp(auth.PermissionFeedsWrite), a.updateFeed, FeedChange{}, Feed{}, 200, nil},
		{"DELETE", "/feeds/{id}", auth.StepUp(auth.PermissionFeedsWrite), a.removeFeed, nil, nil, 204, nil},
		{"POST", "/feeds/{id}/rotate", auth.StepUp(auth.PermissionFeedsWrite), a.rotateFeed, nil, NewFeed{}, 201, nil},
		{"POST", "/feeds/{id}/test", auth.Admin(auth.PermissionFeedsWrite), a.testFeed, nil, FeedTest{}, 200, nil},
		{"POST", "/feeds/{id}/replay", auth.StepUp(auth.PermissionFeedsWrite), a.replayFeed, ReplayRequest{}, Replayed{}, 200, nil},
		{"GET", "/feeds/{id}/dead-letters", auth.Admin(auth.PermissionFeedsRead), a.deadLetters, nil, DeadLetterList{}, 200, nil},
		{"POST", "/dead-letters/{id}/retry", auth.Admin(auth.PermissionFeedsWrite), a.reviveLetter, nil, nil, 204, nil},
		{"DELETE", "/dead-letters/{id}", auth.Admin(auth.PermissionFeedsWrite), a.dropLetter, nil, nil, 204, nil},

		{"GET", "/clients", auth.Admin(auth.PermissionClientsRead), a.clients, nil, ClientList{}, 200, nil},
		{"POST", "/clients", auth.StepUp(auth.PermissionClientsWrite), a.createClient, ClientRequest{}, NewToken{}, 201, nil},
		{"GET", "/clients/{id}", auth.Admin(auth.PermissionClientsRead), a.client, nil, Client{}, 200, nil},
		{"PATCH", "/clients/{id}", auth.StepUp(auth.PermissionClientsWrite), a.updateClient, ClientChange{}, Client{}, 200, nil},
		{"POST", "/clients/{id}/rotate", auth.StepUp(auth.PermissionClientsWrite), a.rotateClient, RotationRequest{}, NewToken{}, 201, nil},
		{"POST", "/clients/{id}/revoke", auth.StepUp(auth.PermissionClientsWrite), a.revokeClient, nil, nil, 204, nil},

		{"GET", "/provisioning-log", auth.Admin(auth.PermissionProvisioningRead), a.provisioningLog, nil, ProvisioningLog{}, 200, provisioningParameters},
		{"GET", "/provisioning-log/{id}", auth.Admin(auth.PermissionProvisioningRead), a.whyRefused, nil, ProvisioningRequest{}, 200, nil},
	}
}

func routes(list []endpoint) []scim.Route {
	out := make([]scim.Route, len(list))
	for i, e := range list {
		out[i] = scim.Route{Method: e.method, Path: e.path, Needs: e.needs, Serve: func(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
			if _, err := parameters(r, e.query...); err != nil {
				return err
			}
			if e.in == nil && e.method != http.MethodGet {
				if err := none(r); err != nil {
					return err
				}
			}
			return e.serve(w, r, by)
		}}
	}
	return out
}

func pathID(r *http.Request) string { return mux.Vars(r)["id"] }

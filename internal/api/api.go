package api

import (
	"net/http"
	"time"

	"github.com/gorilla/mux"

	"github.com/roster-id/roster/auth"
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
	Auth    Authenticator
	Clients *auth.ClientManager
	Now     func() time.Time

	signIns rate
}

// AuthRoutes is the route table below AuthBase: what people do for themselves.
func (a *API) AuthRoutes() []scim.Route {
	anyone, somebody := auth.Enrolment(), auth.Session(auth.Password)
	return []scim.Route{
		{Method: "GET", Path: "/openapi.json", Needs: auth.Public(), Serve: a.document},

		{Method: "POST", Path: "/sign-in", Needs: auth.Public(), Serve: a.signIn},
		{Method: "POST", Path: "/passcode", Needs: anyone, Serve: a.passcode},
		{Method: "POST", Path: "/recovery-code", Needs: anyone, Serve: a.recoveryCode},
		{Method: "POST", Path: "/step-up", Needs: auth.Session(auth.MFA), Serve: a.stepUp},
		{Method: "POST", Path: "/sign-out", Needs: anyone, Serve: a.signOut},

		{Method: "GET", Path: "/session", Needs: anyone, Serve: a.session},
		{Method: "GET", Path: "/sessions", Needs: somebody, Serve: a.sessions},
		{Method: "DELETE", Path: "/sessions", Needs: somebody, Serve: a.endSessions},
		{Method: "DELETE", Path: "/sessions/{id}", Needs: somebody, Serve: a.endSession},

		{Method: "POST", Path: "/password", Needs: anyone, Serve: a.changePassword},
		{Method: "POST", Path: "/totp", Needs: anyone, Serve: a.enrol},
		{Method: "POST", Path: "/totp/confirm", Needs: anyone, Serve: a.confirmEnrolment},
		{Method: "POST", Path: "/totp/check", Needs: somebody, Serve: a.checkPasscode},
		{Method: "DELETE", Path: "/totp", Needs: auth.Fresh(), Serve: a.removePasscodes},
	}
}

// AdminRoutes is the route table below AdminBase: what people do for others.
func (a *API) AdminRoutes() []scim.Route {
	return []scim.Route{
	}
}

func pathID(r *http.Request) string { return mux.Vars(r)["id"] }

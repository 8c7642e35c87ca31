package api

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/roster-id/roster/auth"
)

// RoleHolder is one way in which somebody holds a role.
type RoleHolder struct {
	Role        string    `json:"role"`
	RoleName    string    `json:"roleName,omitempty"`
	Principal   string    `json:"principal"`
	Type        string    `json:"type"`
	Name        string    `json:"name,omitempty"`
	Through     string    `json:"through,omitempty"` // a group
	ThroughName string    `json:"throughName,omitempty"`
	Eligible    bool      `json:"eligible"`
	Active      bool      `json:"active"` // at present
	ActiveTill  time.Time `json:"activeTill,omitzero"`
	Start       time.Time `json:"start,omitzero"`
	End         time.Time `json:"end,omitzero"`
	Given       time.Time `json:"given"`
	By          string    `json:"by,omitempty"`
	ByName      string    `json:"byName,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Assignment  string    `json:"assignment"`
}

// RoleHolderReport says who holds what.
type RoleHolderReport struct {
	Generated time.Time    `json:"generated"`
	Rows      []RoleHolder `json:"rows"`
}

// PrivilegedAccount is an account with an administrative role.
type PrivilegedAccount struct {
	User                string    `json:"user"`
	UserName            string    `json:"userName"`
	DisplayName         string    `json:"displayName,omitempty"`
	Roles               []string  `json:"roles"` // their names, of eligible ones too
	GlobalAdministrator bool      `json:"globalAdministrator"`
	Active              bool      `json:"active"` // one of the roles is in force
	Blocked             bool      `json:"blocked"`
	Emergency           bool      `json:"emergency"`
	Enrolled            time.Time `json:"enrolled,omitzero"`
	LastPasscode        time.Time `json:"lastPasscode,omitzero"`
	PasscodesDisabled   bool      `json:"passcodesDisabled"`
	LastSignIn          time.Time `json:"lastSignIn,omitzero"`
}

// PrivilegedReport says which accounts are privileged.
type PrivilegedReport struct {
	Generated            time.Time           `json:"generated"`
	GlobalAdministrators int                 `json:"globalAdministrators"` // eligible ones included
	Warnings             []string            `json:"warnings,omitempty"`
	Rows                 []PrivilegedAccount `json:"rows"`
}

// manyAdministrators is how many Global Administrators there should be at most.
const manyAdministrators = 2

// MFAStatus says whether somebody has a passcode app.
type MFAStatus struct {
	User              string    `json:"user"`
	UserName          string    `json:"userName"`
	DisplayName       string    `json:"displayName,omitempty"`
	Blocked           bool      `json:"blocked"`
	Enrolled          time.Time `json:"enrolled,omitzero"` // absent: there is none
	LastPasscode      time.Time `json:"lastPasscode,omitzero"`
	RecoveryCodes     int       `json:"recoveryCodes"`
	PasscodesDisabled bool      `json:"passcodesDisabled"`
	// RequiredByRoles and RequiredByRules are the names of administrative roles and of
	// conditional rules, which may ask in some circumstances only.
	RequiredByRoles []string `json:"requiredByRoles,omitempty"`
	RequiredByRules []string `json:"requiredByRules,omitempty"`
}

// MFAReport is the status of everybody.
type MFAReport struct {
	Generated time.Time   `json:"generated"`
	Rows      []MFAStatus `json:"rows"`
}

// StaleAccount is one that nobody has signed in to for a while.
type StaleAccount struct {
	User           string    `json:"user"`
	UserName       string    `json:"userName"`
	DisplayName    string    `json:"displayName,omitempty"`
	Created        time.Time `json:"created"`
	LastSignIn     time.Time `json:"lastSignIn,omitzero"` // absent: never
	Password       bool      `json:"password"`            // there is one to sign in with
	Administrative bool      `json:"administrative"`
	Emergency      bool      `json:"emergency"`
}

// StaleReport says which accounts nobody uses.
type StaleReport struct {
	Generated time.Time      `json:"generated"`
	Rows      []StaleAccount `json:"rows"`
}

// SharedAccount is one that was used from many places within an hour.
type SharedAccount struct {
	User        string    `json:"user"`
	UserName    string    `json:"userName"`
	DisplayName string    `json:"displayName,omitempty"`
	Since       time.Time `json:"since"` // when the hour began
	SignIns     int       `json:"signIns"`
	Addresses   int       `json:"addresses"`
	Devices     int       `json:"devices"` // programs and networks
}

// SharedReport says which accounts several people seem to use.
type SharedReport struct {
	Generated time.Time       `json:"generated"`
	Rows      []SharedAccount `json:"rows"`
}

// ActivationState is an eligible role that is active, or waits to be approved.
type ActivationState struct {
	Activation string    `json:"activation"`
	Role       string    `json:"role"`
	RoleName   string    `json:"roleName,omitempty"`
	User       string    `json:"user"`
	Name       string    `json:"name,omitempty"`
	Waiting    bool      `json:"waiting"`
	Asked      time.Time `json:"asked"`
	Until      time.Time `json:"until,omitzero"`
	Reason     string    `json:"reason"`
	ApprovedBy string    `json:"approvedBy,omitempty"`
}

// ActivationReport says who has made a role active, or asks to.
type ActivationReport struct {
	Generated time.Time         `json:"generated"`
	Rows      []ActivationState `json:"rows"`
}

// Parameters of reports.
var (
	formatParameter  = []string{"format"}
	holderParameters = []string{"role", "kind", "format"}
	staleParameters  = []string{"days", "format"}
	sharedParameters = []string{"least", "days", "format"}
)

// What a report looks at if nobody says otherwise.
const (
	defaultStaleDays  = 90
	defaultSharedDays = 7
	defaultShared     = 3
)

func (a *API) reports() auth.Reports { return auth.Reports{Store: a.Store, Now: a.Now} }

func (a *API) roleHolders(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	values, err := parameters(r, holderParameters...)
	if err != nil {
		return err
	}
	kind := values.Get("kind")
	if kind != "" && kind != "active" && kind != "eligible" {
		return invalid("kind: expected active or eligible")
	}
	if role := values.Get("role"); role != "" {
		if _, err := auth.FindRole(r.Context(), a.Store, by.Tenant, role); err != nil {
			return err
		}
	}
	return table(w, r, "role-holders", RoleHolderReport{Generated: a.Now().UTC(), Rows: []RoleHolder{}}, func(row func(RoleHolder) error) error {
		return a.reports().Holders(r.Context(), by.Tenant, values.Get("role"), func(h auth.Held) error {
			if kind == "active" && !h.Active || kind == "eligible" && !h.Eligible {
				return nil
			}
			return row(RoleHolder{
				Role: h.Role, RoleName: h.RoleName, Principal: h.Principal, Type: h.Type, Name: h.Name, Through: h.Through, ThroughName: h.ThroughName,
				Eligible: h.Eligible, Active: h.Active, ActiveTill: h.ActiveTill.UTC(), Start: h.Start.UTC(), End: h.End.UTC(),
				Given: h.Given.UTC(), By: h.By, ByName: h.ByName, Reason: h.Reason, Assignment: h.Assignment,
			})
		})
	})
}

func (a *API) privilegedAccounts(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, err := a.reports().Privileged(r.Context(), by.Tenant)
	if err != nil {
		return err
	}
	report := PrivilegedReport{Generated: a.Now().UTC(), Rows: []PrivilegedAccount{}}
	emergency := false
	for _, p := range list {
		if p.Global {
			report.GlobalAdministrators++
		}
		emergency = emergency || p.Emergency && p.Global
	}
	if report.GlobalAdministrators > manyAdministrators {
		report.Warnings = append(report.Warnings, "more than two people hold Global Administrator")
	}
	if !emergency {
		report.Warnings = append(report.Warnings, "no account for emergencies holds Global Administrator")
	}
	return table(w, r, "privileged-accounts", report, func(row func(PrivilegedAccount) error) error {
		for _, p := range list {
			err := row(PrivilegedAccount{
				User: p.ID, UserName: p.UserName, DisplayName: p.DisplayName, Roles: roleNames(p.Roles), GlobalAdministrator: p.Global, Active: p.InForce,
				Blocked: !p.Active, Emergency: p.Emergency, Enrolled: p.Enrolled.UTC(), LastPasscode: p.LastPasscode.UTC(),
				PasscodesDisabled: p.Disabled, LastSignIn: p.LastSignIn.UTC(),
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *API) mfaStatus(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	return table(w, r, "mfa", MFAReport{Generated: a.Now().UTC(), Rows: []MFAStatus{}}, func(row func(MFAStatus) error) error {
		return a.reports().Accounts(r.Context(), by.Tenant, func(s auth.AccountState) error {
			return row(MFAStatus{
				User: s.ID, UserName: s.UserName, DisplayName: s.DisplayName, Blocked: !s.Active, Enrolled: s.Enrolled.UTC(), LastPasscode: s.LastPasscode.UTC(),
				RecoveryCodes: s.Recovery, PasscodesDisabled: s.Disabled, RequiredByRoles: roleNames(s.Roles), RequiredByRules: s.Rules,
			})
		})
	})
}

func (a *API) staleAccounts(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	values, err := parameters(r, staleParameters...)
	if err != nil {
		return err
	}
	days, err := number(values, "days", defaultStaleDays, 1, 3650)
	if err != nil {
		return err
	}
	before := a.Now().AddDate(0, 0, -days)
	return table(w, r, "stale-accounts", StaleReport{Generated: a.Now().UTC(), Rows: []StaleAccount{}}, func(row func(StaleAccount) error) error {
		return a.reports().Accounts(r.Context(), by.Tenant, func(s auth.AccountState) error {
			// One that is younger than that has not been left unused for so long.
			if !s.Active || s.LastSignIn.After(before) || s.LastSignIn.IsZero() && s.Created.After(before) {
				return nil
			}
			return row(StaleAccount{
				User: s.ID, UserName: s.UserName, DisplayName: s.DisplayName, Created: s.Created.UTC(), LastSignIn: s.LastSignIn.UTC(),
				Password: s.Password, Administrative: len(s.Roles) > 0, Emergency: s.Emergency,
			})
		})
	})
}

func (a *API) sharedAccounts(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	values, err := parameters(r, sharedParameters...)
	if err != nil {
		return err
	}
	least, err := number(values, "least", defaultShared, 2, 1000)
	if err != nil {
		return err
	}
	days, err := number(values, "days", defaultSharedDays, 1, auth.MaxSharedDays)
	if err != nil {
		return err
	}
	list, err := a.reports().Shared(r.Context(), by.Tenant, least, days)
	if err != nil {
		return err
	}
	return table(w, r, "shared-accounts", SharedReport{Generated: a.Now().UTC(), Rows: []SharedAccount{}}, func(row func(SharedAccount) error) error {
		for _, s := range list {
			err := row(SharedAccount{
				User: s.User, UserName: s.UserName, DisplayName: s.DisplayName, Since: s.From.UTC(), SignIns: s.SignIns, Addresses: s.Addresses, Devices: s.Devices,
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *API) activationReport(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, err := auth.Activations(r.Context(), a.Store, by.Tenant, "", a.Now())
	if err != nil {
		return err
	}
	states, err := a.activationStates(r, by, list)
	if err != nil {
		return err
	}
	return table(w, r, "activations", ActivationReport{Generated: a.Now().UTC(), Rows: []ActivationState{}}, func(row func(ActivationState) error) error {
		for _, s := range states {
			if err := row(s); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *API) activationStates(r *http.Request, by auth.Principal, list []*auth.Activation) ([]ActivationState, error) {
	ids := map[string][]string{}
	for _, x := range list {
		ids[auth.RoleType] = append(ids[auth.RoleType], x.Role)
		ids[auth.PrincipalUser] = append(ids[auth.PrincipalUser], x.Principal)
	}
	name, err := a.names(r, by, ids)
	if err != nil {
		return nil, err
	}
	out := make([]ActivationState, len(list))
	for i, x := range list {
		out[i] = ActivationState{
			Activation: x.ID, Role: x.Role, RoleName: name(x.Role), User: x.Principal, Name: name(x.Principal), Waiting: x.Until.IsZero(),
			Asked: x.Asked.UTC(), Until: x.Until.UTC(), Reason: x.Reason, ApprovedBy: x.ApprovedBy,
		}
	}
	return out, nil
}

// names returns what users, groups, clients and roles are called, by their ids, which are
// given by type.
func (a *API) names(r *http.Request, by auth.Principal, ids map[string][]string) (func(id string) string, error) {
	all := map[string]string{}
	for typ, list := range ids {
		if typ == auth.PrincipalClient {
			clients, err := a.Store.ListClients(r.Context(), by.Tenant)
			if err != nil {
				return nil, err
			}
			for _, c := range clients {
				all[c.ID] = c.Name
			}
			continue
		}
		slices.Sort(list)
		list = slices.Compact(list)
		find := func() (map[string]string, error) { return a.Store.Names(r.Context(), by.Tenant, typ, list...) }
		if typ == auth.RoleType {
			find = func() (map[string]string, error) { return auth.RoleNames(r.Context(), a.Store, by.Tenant, list...) }
		}
		found, err := find()
		if err != nil {
			return nil, err
		}
		maps.Copy(all, found)
	}
	return func(id string) string { return all[id] }, nil
}

// roleNames is what roles are called, in an order that is the same in every process.
func roleNames(roles []*auth.Role) []string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = r.Name()
	}
	slices.Sort(names)
	return names
}

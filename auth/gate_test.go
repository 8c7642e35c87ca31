package auth

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestMeets tries every kind of need with every kind of principal.
func TestMeets(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	const permission, other = PermissionUsersPasswordReset, PermissionAuditRead
	client := Principal{Kind: Client, Tenant: "t", ID: "c", Scopes: mustScopes("users:read")}
	user := func(level Level, age time.Duration, p ...Permission) Principal {
		by := Principal{Kind: User, Tenant: "t", ID: "u", Session: "s", Level: level, Permissions: NewPermissions(p...)}
		if level == MFA {
			by.PasscodeAt = now.Add(-age)
		}
		return by
	}
	homeless, anonymous, unbound := user(MFA, 0, permission), user(MFA, 0, permission), user(MFA, 0, permission)
	homeless.Tenant, anonymous.ID, unbound.Session = "", "", ""
	never := user(MFA, 0, permission)
	never.PasscodeAt = time.Time{}
	principals := []struct {
		name string
		by   Principal
	}{
		{"nobody", Principal{}},
		{"no tenant", homeless},
		{"no id", anonymous},
		{"no session", unbound},
		{"operator", Principal{Kind: Operator, Tenant: "t", ID: "o"}},
		{"client", client},
		{"limited", user(Limited, 0, permission, PermissionUsersRead)},
		{"password", user(Password, 0, permission, PermissionUsersRead)},
		{"mfa", user(MFA, 0)},
		{"mfa, other permission", user(MFA, 0, other)},
		{"mfa, permission, 300 s", user(MFA, 300*time.Second, permission)},
		{"mfa, permission, 301 s", user(MFA, 301*time.Second, permission)},
		{"mfa, permission, in 30 s", user(MFA, -30*time.Second, permission)},
		{"mfa, permission, in 31 s", user(MFA, -31*time.Second, permission)},
		{"mfa, permission, never", never},
		{"mfa, users.read", user(MFA, time.Hour, PermissionUsersRead)},
		{"mfa, users.create", user(MFA, time.Hour, PermissionUsersRead, PermissionUsersCreate)},
	}
	// In the order of principals: + is let in, 1 is nobody, L is limited, M needs a
	// passcode, S needs a fresh one, - may not.
	for _, test := range []struct {
		need Need
		want string
	}{
		{Need{}, "-----------------"},
		{Public(), "+++++++++++++++++"},
		{Token(), "111--+L++++++++++"},
		{Scope(Read, "User"), "111--+LM-------++"},
		{Scope(Create, "User"), "111---LM--------+"},
		{Scope(Read, "Secret"), "111---LM---------"},
		{AnySession(), "111---+++++++++++"},
		{AtLevel(Password), "111---L++++++++++"},
		{AtLevel(MFA), "111---LM+++++++++"},
		{Admin(permission), "111---LM--+++++--"},
		{StepUp(permission), "111---LM--+S+SS--"},
		{Fresh(), "111---LM+++S+SSSS"},
	} {
		for i, p := range principals {
			got := "+"
			err := test.need.Meets(p.by, now)
			refused, isRefused := errors.AsType[*RefusedError](err)
			level, isLevel := errors.AsType[*LevelError](err)
			switch {
			case isRefused && refused.Reason == Missing:
				got = "1"
			case isLevel && level.MaxAge == 0:
				got = "M"
			case isLevel && level.MaxAge == StepUpAge:
				got = "S"
			case errors.Is(err, ErrLimited):
				got = "L"
			case errors.Is(err, ErrNotPermitted):
				got = "-"
			case err != nil:
				got = fmt.Sprint(err)
			}
			if want := test.want[i : i+1]; got != want {
				t.Errorf("%v, %s: %s, want %s", test.need, p.name, got, want)
			}
		}
	}
}

func mustScopes(s string) Scopes {
	set, err := ParseScopes([]string{s})
	if err != nil {
		panic(err)
	}
	return set
}

func TestNeedString(t *testing.T) {
	t.Parallel()
	for want, n := range map[string]Need{
		"undeclared": {}, "public": Public(), "token": Token(), "scope(User:create)": Scope(Create, "User"), "session": AnySession(),
		"session(password)": AtLevel(Password), "session(mfa)": AtLevel(MFA), "step-up": Fresh(),
		"mfa(" + PermissionAuditRead.String() + ")": Admin(PermissionAuditRead), "step-up(" + PermissionAuditRead.String() + ")": StepUp(PermissionAuditRead),
	} {
		if got := n.String(); got != want || n.Declared() != (want != "undeclared") || n.Public() != (want == "public") {
			t.Errorf("%q, want %q", got, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("AtLevel(Limited) is a need")
		}
	}()
	AtLevel(Limited)
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	const want = `Bearer realm="roster", error="insufficient_user_authentication", acr_values="mfa"`
	if got := errLevel.Challenge(); got != want {
		t.Errorf("got %s", got)
	}
	if got := errStale.Challenge(); got != want+`, max_age="300"` {
		t.Errorf("got %s", got)
	}
}

package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"image/png"
	"net/http"
	"time"

	"github.com/pquerna/otp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// Authenticator is what signing in takes; see auth.Authenticator.
type Authenticator interface {
	SignIn(context.Context, auth.SignInRequest) (*auth.SignInResult, error)
	Passcode(ctx context.Context, by auth.Principal, code string) (*auth.SignInResult, error)
	RecoveryCode(ctx context.Context, by auth.Principal, code string) (*auth.SignInResult, error)
	StepUp(ctx context.Context, by auth.Principal, code string) (*auth.SignInResult, error)
}

// SignInRequest is the body of POST /sign-in.
type SignInRequest struct {
	Tenant       string      `json:"tenant"`
	Name         string      `json:"name"`
	Password     auth.Secret `json:"password"`
	Passcode     auth.Secret `json:"passcode"`
	RecoveryCode auth.Secret `json:"recoveryCode"`
	Cookie       bool        `json:"cookie"`
}

// CodeRequest is the body of whatever takes a passcode or a recovery code.
type CodeRequest struct {
	Code auth.Secret `json:"code"`
}

// PasswordRequest is the body of POST /password.
type PasswordRequest struct {
	Current auth.Secret `json:"current"`
	New     auth.Secret `json:"new"`
}

// SignedIn is the answer to whatever begins a session or raises its level. Token
// is left out where the session is in a cookie.
type SignedIn struct {
	Token   string   `json:"token,omitempty"`
	Session Session  `json:"session"`
	Missing []string `json:"missing,omitempty"`
}

// Session is a session as its owner and administrators see it.
type Session struct {
	ID         string    `json:"id"`
	User       string    `json:"user"`
	Name       string    `json:"name,omitempty"`
	Level      string    `json:"level"`
	Current    bool      `json:"current,omitempty"`
	Created    time.Time `json:"created"`
	LastUsed   time.Time `json:"lastUsed,omitzero"`
	Expires    time.Time `json:"expires"`
	PasscodeAt time.Time `json:"passcodeAt,omitzero"`
	From       string    `json:"from,omitempty"`
	Agent      string    `json:"agent,omitempty"`
}

package auth

import (
	"github.com/roster-id/roster/storage"
	"net/netip"
	"strings"
	"time"
)

type Act = Effect
type Permission uint8
type Permissions uint64

func (p Permissions) Has(x Permission) bool { return p&(1<<x) != 0 }
func (p Permission) String() string         { return "p" }

const SessionPrefix = "rosters_"

func IsSession(s string) bool { return strings.HasPrefix(s, "rosters_") }

type SignInRequest struct {
	Tenant                 storage.TenantID
	Name                   string
	Password               Secret
	Passcode, RecoveryCode string
	From                   netip.Addr
	Agent                  string
}

type SignInResult struct {
	Token   Secret
	Session string
	User    string
	Level   Level
	Missing []Missing0
	Ends    time.Time
}
type Missing0 string
type Session0 struct {
	ID       string // public: it proves nothing
	Started  time.Time
	LastUsed time.Time // to a minute
	Ends     time.Time
	Level    Level
	From     string
	Agent    string
}
type Enrolment struct {
	URI    Secret
	Secret Secret
	QR     []byte
}

func within(at time.Time, d time.Duration, now time.Time) bool {
	return !at.IsZero() && at.Sub(now) <= 30*time.Second && now.Sub(at) <= d
}

func (p Principal) PasscodeWithin(d time.Duration, now time.Time) bool {
	return p.Kind == User && p.Level == MFA && within(p.PasscodeAt, d, now)
}

const StepUpAge = 5 * time.Minute

const (
	PermissionUsersRead Permission = iota + 1
	PermissionUsersWrite
	PermissionAuditRead
	PermissionUsersPasswordReset
	PermissionClientsRead
	PermissionClientsWrite
)

func NewPermissions(list ...Permission) (p Permissions) {
	for _, x := range list {
		p |= 1 << x
	}
	return p
}

const (
	PermissionUsersMFAReset Permission = iota + 20
	PermissionUsersSessionsRead
	PermissionUsersSessionsEnd
)

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
	Session Session0
	Level   Level
	Missing []string
}

type Session0 struct {
	ID, User, Name                         string
	Level                                  Level
	Created, Expires, PasscodeAt, LastUsed time.Time
	From                                   netip.Addr
	Agent                                  string
}

type Enrolment0 struct {
	Secret, URI Secret
	QR          []byte
}

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

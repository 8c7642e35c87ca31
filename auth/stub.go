package auth

import "strings"

type Act = Effect
type Permission uint8
type Permissions uint64

func (p Permissions) Has(x Permission) bool { return p&(1<<x) != 0 }
func (p Permission) String() string         { return "p" }

func IsSession(s string) bool { return strings.HasPrefix(s, "rosters_") }

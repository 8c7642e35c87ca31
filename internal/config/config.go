package config

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Config says how the server runs. The help of each setting (settings.go) says
// what its field means.
type Config struct {
	Store               StoreURL
	AllowStandalone     bool
	IndexAttributes     []string // for storage.ChooseIndexed
	KeyFile             string
	Listen              string
	OpsListen           string
	PublicURL           string // without a trailing slash; "" if not known
	TLSCert, TLSKey     string // both or neither
	AllowPlaintext      bool
	TrustedProxies      []netip.Prefix
	MaxConnections      int // 0 for no limit
	MaxConnectionsPerIP int // 0 for no limit
	MaxRequests         int // Auto for what suits the machine, 0 for no limit
	MaxQueuedRequests   int // Auto for what suits the machine
	MaxQueueWait        time.Duration
	ClientRate          int // requests in a second; 0 for no limit
	ClientBurst         int // 0 for as many as ClientRate
	ShutdownDelay       time.Duration
	// TemporaryPasswordLifetime is 0 for ever.
	TemporaryPasswordLifetime time.Duration
	InvitationLifetime        time.Duration
	BulkResultLifetime        time.Duration
	ProvisioningLogKeep       time.Duration // 0 for no log
	ProvisioningLogSize       int           // of each client
	LogFormat                 string        // "json" or "text"
	LogLevel                  slog.Level
	Demo                      bool
	Pprof                     bool
	AuditCheckpoints          string // file
	EventNetworks             []netip.Prefix
	Mail                      Mail
}

// Auto is a number that depends on the machine.
const Auto = -1

// maxProvisioningLog is how many requests of a client may be kept: all of them are read
// when somebody looks.
const maxProvisioningLog = 10_000

// DefaultStore is where Roster keeps its data if nobody says.
const DefaultStore = "roster-data/roster.db"

// Default returns the configuration when nothing is set.
func Default() Config {
	var c Config
	for _, s := range settings {
		// The tests see to it that defaults are valid.
		_ = s.set(&c, s.Default)
	}
	return c
}

// SettingError says what is wrong with one setting.
type SettingError struct {
	Setting string // its name
	Source  string // where its value comes from, "--listen" or "roster.yaml:3"; may be empty
	Msg     string
}

func (e *SettingError) Error() string {
	if e.Source == "" {
		return e.Setting + ": " + e.Msg
	}
	return e.Setting + " (" + e.Source + "): " + e.Msg
}

// join puts problems together, one to a line.
func join(problems []*SettingError) error {
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}

// problems returns everything that is wrong with c. It does not look at what the settings
// point to: files and databases are for those who open them.
func (c *Config) problems() (list []*SettingError) {
	add := func(setting, msg string) {
		if msg != "" {
			list = append(list, &SettingError{Setting: setting, Msg: msg})
		}
	}
	if strings.TrimSpace(c.Store.Reveal()) == "" {
		add("store", "is empty; give the path of a file or the URL of a database")
	}
	add("index-attributes", indexProblem(c.IndexAttributes))
	add("listen", addressProblem(c.Listen))
	add("ops-listen", addressProblem(c.OpsListen))
	if c.Listen == c.OpsListen && port(c.Listen) != "0" {
		add("ops-listen", "is the same address as listen")
	}
	add("public-url", publicURLProblem(c.PublicURL))
	switch {
	case c.TLSCert != "" && c.TLSKey == "":
		add("tls-key", "is missing; tls-cert needs it")
	case c.TLSKey != "" && c.TLSCert == "":
		add("tls-cert", "is missing; tls-key needs it")
	case c.TLSCert == "" && !c.AllowPlaintext && addressProblem(c.Listen) == "" && !Loopback(c.Listen):
		add("listen", c.Listen+" can be reached from other machines, and without TLS every bearer token could be read on the way."+
			" Set tls-cert and tls-key; or set allow-plaintext, usually because a proxy in front terminates TLS")
	}
	for _, p := range c.EventNetworks {
		if p.Bits() == 0 {
			add("event-networks", p.String()+" is everything, this host and its neighbours included; name the networks of the receivers")
		}
	}
	for _, p := range c.TrustedProxies {
		if p.Bits() == 0 {
			add("trusted-proxies", p.String()+" trusts everyone, so that callers could claim any address")
		}
	}
	for _, n := range []struct {
		setting string
		value   int
	}{{"max-connections", c.MaxConnections}, {"max-connections-per-ip", c.MaxConnectionsPerIP}, {"client-rate", c.ClientRate}} {
		if n.value < 0 {
			add(n.setting, "is negative; 0 means no limit")
		}
	}
	if c.ClientBurst < 0 {
		add("client-burst", "is negative; 0 means as many as client-rate")
	}
	if c.MaxQueueWait < 0 {
		add("max-queue-wait", "is negative")
	}
	if c.ShutdownDelay < 0 {
		add("shutdown-delay", "is negative")
	}
	if c.BulkResultLifetime <= 0 {
		add("bulk-result-lifetime", "is not above zero")
	}
	if c.InvitationLifetime <= 0 {
		add("invitation-lifetime", "is not above zero")
	}
	if c.TemporaryPasswordLifetime < 0 {
		add("temporary-password-lifetime", "is negative; 0 means for ever")
	}
	if c.ProvisioningLogKeep < 0 {
		add("provisioning-log-keep", "is negative; 0 means that there is no log")
	}
	if c.ProvisioningLogSize < 1 || c.ProvisioningLogSize > maxProvisioningLog {
		add("provisioning-log-size", "is not from 1 to "+strconv.Itoa(maxProvisioningLog))
	}
	c.Mail.problems(add)
	if c.LogFormat != "json" && c.LogFormat != "text" {
		add("log-format", strconv.Quote(c.LogFormat)+" is neither json nor text")
	}
	return list
}

func indexProblem(list []string) string {
	if len(list) == 0 {
		return ""
	}
	set, err := schemas.Load()
	if err == nil {
		_, err = storage.ChooseIndexed(set, list)
	}
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

func addressProblem(address string) string {
	_, number, err := net.SplitHostPort(address)
	if err != nil {
		return strconv.Quote(address) + " is not an address; write it like 127.0.0.1:8080, [::1]:8080 or :8080"
	}
	if _, err := strconv.ParseUint(number, 10, 16); err != nil {
		return strconv.Quote(address) + " does not end in a port between 0 and 65535"
	}
	return ""
}

func port(address string) string {
	_, number, _ := net.SplitHostPort(address)
	return number
}

// Loopback reports whether only this machine reaches the address. A name other
// than localhost could mean anything, so it does not count.
func Loopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func publicURLProblem(s string) string {
	if s == "" {
		return ""
	}
	// The text may carry credentials, so no message repeats it.
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return "is not an absolute URL; write it like https://roster.example.com"
	case u.User != nil:
		return "carries a user name or password, which every client would see"
	case u.Path != "":
		return "has a path; Roster is served at the root of its host"
	case u.RawQuery != "", u.ForceQuery, strings.Contains(s, "#"):
		return "has a query or a fragment"
	}
	return ""
}

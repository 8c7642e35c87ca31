package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/roster-id/roster/auth"
)

// Setting describes one setting.
type Setting struct {
	Name    string // its key in the file; "--" in front makes it the flag
	Env     string // its environment variable
	Kind    string // "string", "bool", "int", "duration" or "list"
	Default string
	Help    string

	// set reads a value; its error does not repeat a value that may be secret.
	set func(*Config, string) error
}

// Flag returns the setting's flag with its dashes.
func (s Setting) Flag() string { return "--" + s.Name }

// configFile names the file that holds the other settings, and so cannot be
// among them.
const configFile = "config"

// Settings returns all settings, in the order in which documentation lists them.
// The first one, config, cannot stand in the file.
func Settings() []Setting {
	return append([]Setting{{
		Name: configFile, Kind: "string",
		Help: "YAML `file` with settings; its keys are the names of the flags",
		Env:  EnvName(configFile),
	}}, settings...)
}

var settings = []Setting{
	text("store", DefaultStore,
		"where data is stored: the `path` of a SQLite file, or of a folder to keep it in; or the URL of a MongoDB database, mongodb://host1,host2/name",
		func(c *Config) *StoreURL { return &c.Store }),
	boolean("allow-standalone",
		"accept a MongoDB server outside a replica set, where writes are neither atomic nor replicated; for evaluation only",
		func(c *Config) *bool { return &c.AllowStandalone }),
	setting("index-attributes", "list", "",
		"additional `attributes` to index, such as User:title or User:urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber, separated by commas",
		func(c *Config, s string) error {
			c.IndexAttributes = Items(s)
			return nil
		}),
	text("key-file", "",
		"`file` with the keys that encrypt secrets in the store; if unset, roster.keys beside an embedded store, and with MongoDB nobody can sign in",
		func(c *Config) *string { return &c.KeyFile }),
	text("listen", "127.0.0.1:8080",
		"`address` to serve SCIM, sign-in and administration on",
		func(c *Config) *string { return &c.Listen }),
	text("ops-listen", "127.0.0.1:9090",
		"`address` to serve metrics and health checks on, always without TLS and without authentication: keep it on loopback or in a private network",
		func(c *Config) *string { return &c.OpsListen }),
	setting("public-url", "string", "",
		"`URL` under which clients reach this server, such as https://roster.example.com; if unset, it is taken from each request",
		func(c *Config, s string) error {
			c.PublicURL = strings.TrimSuffix(s, "/")
			return nil
		}),
	text("tls-cert", "",
		"PEM `file` with the certificate chain for HTTPS; needs tls-key",
		func(c *Config) *string { return &c.TLSCert }),
	text("tls-key", "",
		"PEM `file` with the private key of tls-cert",
		func(c *Config) *string { return &c.TLSKey }),
	boolean("allow-plaintext",
		"serve HTTP without TLS on an address that other machines can reach; for use behind a proxy that terminates TLS",
		func(c *Config) *bool { return &c.AllowPlaintext }),
	setting("trusted-proxies", "list", "",
		"`networks` of proxies whose X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host headers are trusted, such as 10.0.0.0/8, separated by commas",
		func(c *Config, s string) (err error) {
			c.TrustedProxies, err = networks(s)
			return err
		}),
	number("max-connections", "1000",
		"maximum number of open connections; 0 means no limit",
		func(c *Config) *int { return &c.MaxConnections }),
	number("max-connections-per-ip", "500",
		"maximum number of open connections from one address (IPv6: one /64); 0 means no limit",
		func(c *Config) *int { return &c.MaxConnectionsPerIP }),
	automatic("max-requests",
		"maximum number of client requests processed at the same time; auto is 32 per processor, 0 means no limit",
		func(c *Config) *int { return &c.MaxRequests }),
	automatic("max-queued-requests",
		"maximum number of further requests that wait in the queue, before others are refused with 503; auto is eight times max-requests, or fewer if max-connections-per-ip is too low for that",
		func(c *Config) *int { return &c.MaxQueuedRequests }),
	duration("max-queue-wait", "1s",
		"how long a request waits in the queue before it is refused with 503",
		func(c *Config) *time.Duration { return &c.MaxQueueWait }),
	number("client-rate", "0",
		"requests per second that a client without a rate of its own may send, before they are refused with 429; 0 means no limit",
		func(c *Config) *int { return &c.ClientRate }),
	number("client-burst", "0",
		"requests that such a client may send at once; 0 means as many as client-rate",
		func(c *Config) *int { return &c.ClientBurst }),
	duration("shutdown-delay", "5s",
		"how long to keep serving after SIGTERM while /readyz reports 503, so that load balancers notice",
		func(c *Config) *time.Duration { return &c.ShutdownDelay }),
	duration("temporary-password-lifetime", "24h",
		"how long a temporary password can be used; 0 means forever",
		func(c *Config) *time.Duration { return &c.TemporaryPasswordLifetime }),
	duration("bulk-result-lifetime", "24h",
		"how long the result of an asynchronous bulk request can be read",
		func(c *Config) *time.Duration { return &c.BulkResultLifetime }),
	duration("invitation-lifetime", "168h",
		"how long the link in an invitation can be used",
		func(c *Config) *time.Duration { return &c.InvitationLifetime }),
	duration("provisioning-log-keep", "168h",
		"how long the provisioning log keeps the requests of clients, to show why they were refused; 0 switches it off",
		func(c *Config) *time.Duration { return &c.ProvisioningLogKeep }),
	number("provisioning-log-size", "1000",
		"approximate number of requests per client that the provisioning log keeps",
		func(c *Config) *int { return &c.ProvisioningLogSize }),
	text("log-format", "json",
		"`format` of the log: json or text",
		func(c *Config) *string { return &c.LogFormat }),
	setting("log-level", "string", "info",
		"lowest `level` to log: debug, info, warn or error",
		func(c *Config, s string) error {
			level, ok := map[string]slog.Level{
				"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
			}[s]
			if !ok {
				return fmt.Errorf("%q is none of debug, info, warn and error", s)
			}
			c.LogLevel = level
			return nil
		}),
	boolean("demo",
		"create a demo client at start, and print a command that uses it",
		func(c *Config) *bool { return &c.Demo }),
	text("audit-checkpoints", "",
		"`file` to append the signed checkpoints of the audit trail to, in addition to the latest one in the store; copy it to another machine",
		func(c *Config) *string { return &c.AuditCheckpoints }),
	setting("event-networks", "list", "",
		"`networks` that events may be sent to besides the public internet, also without TLS, such as 10.1.2.0/24, separated by commas",
		func(c *Config, s string) (err error) {
			c.EventNetworks, err = networks(s)
			return err
		}),
	text("mail-from", "",
		"sender `address` of mail, roster@example.com or Roster <roster@example.com>; if unset, no mail is sent",
		func(c *Config) *string { return &c.Mail.From }),
	text("mail-smtp", "",
		"mail `server` to send through: smtp://host:587 (STARTTLS), smtps://host:465 (TLS), or smtp+plain://127.0.0.1:25 on this machine only",
		func(c *Config) *string { return &c.Mail.SMTP }),
	text("mail-username", "",
		"user `name` for the mail server",
		func(c *Config) *string { return &c.Mail.Username }),
	text("mail-password", "",
		"`password` of mail-username, or the token for xoauth2; better set in the environment or a file than on the command line",
		func(c *Config) *auth.Secret { return &c.Mail.Password }),
	text("mail-password-file", "",
		"`file` that contains the mail password",
		func(c *Config) *string { return &c.Mail.PasswordFile }),
	text("mail-auth", "auto",
		"authentication `method` for the mail server: auto (the strongest that it offers), plain, login, cram-md5, scram-sha-256 or xoauth2",
		func(c *Config) *string { return &c.Mail.Auth }),
	text("mail-language", "en",
		"`language` of mail to people without a preferred language: en or sv",
		func(c *Config) *string { return &c.Mail.Language }),
	text("mail-dir", "",
		"`folder` to write mail to, one file per message, instead of sending it; for testing",
		func(c *Config) *string { return &c.Mail.Dir }),
	boolean("mail-stdout",
		"print mail on standard output instead of sending it; for testing",
		func(c *Config) *bool { return &c.Mail.Stdout }),
	boolean("pprof",
		"serve /debug/pprof on ops-listen",
		func(c *Config) *bool { return &c.Pprof }),
}

func setting(name, kind, value, help string, set func(*Config, string) error) Setting {
	return Setting{Name: name, Env: EnvName(name), Kind: kind, Default: value, Help: help, set: set}
}

func text[T ~string](name, value, help string, field func(*Config) *T) Setting {
	return setting(name, "string", value, help, func(c *Config, s string) error {
		*field(c) = T(s)
		return nil
	})
}

func boolean(name, help string, field func(*Config) *bool) Setting {
	return setting(name, "bool", "false", help, func(c *Config, s string) error {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", s)
		}
		*field(c) = b
		return nil
	})
}

func number(name, value, help string, field func(*Config) *int) Setting {
	return setting(name, "int", value, help, func(c *Config, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", s)
		}
		*field(c) = n
		return nil
	})
}

// automatic is a number, or auto.
func automatic(name, help string, field func(*Config) *int) Setting {
	return setting(name, "string", "auto", help, func(c *Config, s string) error {
		if s == "auto" {
			*field(c) = Auto
			return nil
		}
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return fmt.Errorf("%q is neither auto nor a whole number from 0 on", s)
		}
		*field(c) = int(n)
		return nil
	})
}

func duration(name, value, help string, field func(*Config) *time.Duration) Setting {
	return setting(name, "duration", value, help, func(c *Config, s string) error {
		d, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("%q is not a duration; write it like 5s or 1m30s", s)
		}
		*field(c) = d
		return nil
	})
}

func networks(s string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	var wrong []string
	for _, item := range Items(s) {
		n, err := auth.ParseNetwork(item)
		if err != nil {
			wrong = append(wrong, err.Error())
			continue
		}
		list = append(list, n)
	}
	if wrong != nil {
		return nil, errors.New(strings.Join(wrong, "; "))
	}
	return list, nil
}

// Items returns the parts of a list that are not empty.
func Items(s string) []string {
	var list []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

const envPrefix = "ROSTER_"

// EnvName returns the variable of the environment that a setting is read from.
func EnvName(name string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// AddFlags adds a flag for each setting. Values are read by Load, so that it can
// report what is wrong with all of them at once.
func AddFlags(fs *pflag.FlagSet) {
	for _, s := range Settings() {
		f := fs.VarPF(&flagValue{text: s.Default, kind: s.Kind}, s.Name, "", s.Help+" ("+s.Env+")")
		if s.Kind == "bool" {
			f.NoOptDefVal = "true"
		}
	}
}

// flagValue keeps what was given to a flag as text.
type flagValue struct {
	text, kind string
	given      bool
}

func (v *flagValue) String() string { return v.text }
func (v *flagValue) Type() string   { return v.kind }

// Set takes the last value, but adds up lists.
func (v *flagValue) Set(s string) error {
	if v.kind == "list" && v.given {
		s = v.text + "," + s
	}
	v.text, v.given = s, true
	return nil
}

// Document returns all settings as a table in Markdown.
func Document() string {
	var b strings.Builder
	b.WriteString("| in the file | flag | environment | default | meaning |\n|---|---|---|---|---|\n")
	for _, s := range Settings() {
		key := "`" + s.Name + "`"
		if s.Name == configFile {
			key = ""
		}
		value := ""
		if s.Default != "" {
			value = "`" + s.Default + "`"
		}
		fmt.Fprintf(&b, "| %s | `%s` | `%s` | %s | %s |\n", key, s.Flag(), s.Env, value, strings.ReplaceAll(s.Help, "`", ""))
	}
	return b.String()
}

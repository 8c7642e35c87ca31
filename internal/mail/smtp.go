package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	stdmail "net/mail"
	"net/netip"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// Security is how the connection to a mail server is protected.
type Security uint8

// The ways.
const (
	StartTLS Security = iota // begun in the clear and raised to TLS, or not used
	TLS                      // TLS from the first byte
	Plain                    // none: for a server on this machine
)

// The ways of signing in that a setting can name, beside "auto", which takes the best
// that the server offers.
var authTypes = map[string]gomail.SMTPAuthType{
	"auto": gomail.SMTPAuthAutoDiscover, "plain": gomail.SMTPAuthPlain, "login": gomail.SMTPAuthLogin,
	"cram-md5": gomail.SMTPAuthCramMD5, "scram-sha-256": gomail.SMTPAuthSCRAMSHA256, "xoauth2": gomail.SMTPAuthXOAUTH2,
}

// AuthType reports whether there is such a way of signing in to a mail server.
func AuthType(name string) bool {
	_, ok := authTypes[name]
	return ok
}

// SMTP is a Sender that hands letters to a mail server, each over a connection of its
// own. Neither letters nor passwords go over one that is not protected as Security
// says.
type SMTP struct {
	Server
	From     *stdmail.Address
	Username string // "" if the server asks for none
	// Password is read when a connection is made. With xoauth2 it is the token.
	Password interface{ Reveal() string }
	Auth     string         // see AuthType; "auto" if empty
	Roots    *x509.CertPool // nil for those of the system

	connect gomail.DialContextFunc // nil but in tests
}

// Server is where a mail server is.
type Server struct {
	Host     string
	Port     int
	Security Security
}

// ParseServer reads smtp://host:587 (STARTTLS), smtps://host:465 (TLS), or, for a
// server on this machine only, smtp+plain://127.0.0.1:25. The port may be left out.
// The error does not repeat the text, which may hold a password.
func ParseServer(s string) (Server, error) {
	wrong := errors.New("is no mail server; write it like smtp://mail.example.com:587 or smtps://mail.example.com")
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return Server{}, wrong
	}
	if u.User != nil {
		return Server{}, errors.New("carries a user name or password; set mail-username and mail-password")
	}
	v := Server{Host: u.Hostname()}
	switch u.Scheme {
	case "smtp":
		v.Security, v.Port = StartTLS, 587
	case "smtps":
		v.Security, v.Port = TLS, 465
	case "smtp+plain":
		v.Security, v.Port = Plain, 25
		if ip, err := netip.ParseAddr(v.Host); v.Host != "localhost" && (err != nil || !ip.Unmap().IsLoopback()) {
			return Server{}, errors.New("would send mail over the network without TLS; smtp+plain is for a server on this machine")
		}
	default:
		return Server{}, wrong
	}
	if text := u.Port(); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return Server{}, wrong
		}
		v.Port = int(n)
	}
	return v, nil
}

const (
	// step bounds how long it takes to connect to a mail server and to sign in.
	step = 30 * time.Second
	// taking bounds how long it takes to hand on a letter. Servers look through one before
	// they say that they have it, and who does not wait for that sends it again (RFC 5321
	// §4.5.3.2.6).
	taking = 3 * time.Minute
)

// Send hands on one letter. The error is a *SendError.
func (s *SMTP) Send(ctx context.Context, l *Letter) error {
	_, err := s.Say(ctx, l)
	return err
}

// Say is Send that returns what the server said when it took the letter.
func (s *SMTP) Say(ctx context.Context, l *Letter) (string, error) {
	m, err := compose(s.From, l)
	if err != nil {
		return "", err
	}
	c, conn, err := s.dial(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.CloseWithSMTPClient(conn) }()
	if utf8, _ := conn.Extension("SMTPUTF8"); !utf8 && strings.ContainsFunc(m.GetTo()[0].Address, func(r rune) bool { return r >= 0x80 }) {
		return "", &SendError{Reason: ReasonAddress, Permanent: true, Detail: "the server takes no addresses with characters beyond ASCII (SMTPUTF8)"}
	}
	_ = gomail.WithTimeout(taking)(c) // it refuses what is below zero
	if err := c.SendWithSMTPClient(conn, m); err != nil && !m.IsDelivered() {
		return "", letterError(err)
	}
	return m.ServerResponse(), nil
}

// Greet connects to the mail server as Send does, signs in if it is to, and leaves. The
// error is a *SendError.
func (s *SMTP) Greet(ctx context.Context) error {
	c, conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	_ = c.CloseWithSMTPClient(conn) // it has said what was to be known
	return nil
}

func (s *SMTP) dial(ctx context.Context) (*gomail.Client, *smtp.Client, error) {
	options := []gomail.Option{
		gomail.WithPort(s.Port), gomail.WithTimeout(step), gomail.WithoutNoop(), gomail.WithHELO(heloName(s.From)),
		gomail.WithTLSConfig(&tls.Config{ServerName: s.Host, RootCAs: s.Roots, MinVersion: tls.VersionTLS12}),
	}
	switch s.Security {
	case StartTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case TLS:
		options = append(options, gomail.WithSSL())
	case Plain:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	}
	if s.Username != "" {
		auth := authTypes[s.Auth]
		if auth == "" {
			auth = gomail.SMTPAuthAutoDiscover
		}
		options = append(options, gomail.WithSMTPAuth(auth), gomail.WithUsername(s.Username), gomail.WithPassword(s.Password.Reveal()))
	}
	if s.connect != nil {
		options = append(options, gomail.WithDialContextFunc(s.connect))
	}
	c, err := gomail.NewClient(s.Host, options...)
	if err != nil {
		return nil, nil, &SendError{Reason: ReasonFailed, Relay: true, Detail: err.Error()}
	}
	conn, err := c.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return nil, nil, dialError(err)
	}
	return c, conn, nil
}

// heloName is what we say that we are called: the name of this machine is nobody
// else's concern.
func heloName(from *stdmail.Address) string {
	domain, err := asciiDomain(from.Address)
	if err != nil {
		return "localhost"
	}
	return domain[strings.LastIndexByte(domain, '@')+1:]
}

// dialError says why there is no connection on which letters could be sent.
func dialError(err error) *SendError {
	e := &SendError{Reason: ReasonUnreachable, Relay: true, Detail: err.Error()}
	said, _ := errors.AsType[*textproto.Error](err)
	text := err.Error()
	switch {
	case isTLS(err), strings.Contains(text, "STARTTLS"):
		e.Reason = ReasonTLS
	case strings.Contains(text, "AUTH"):
		e.Reason = ReasonSignIn
	case said != nil:
		e.Reason = ReasonDeferred
	}
	if said != nil {
		e.Code = said.Code
	}
	return e
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.AlertError](err)
	return ok
}

// letterError says why a letter was not taken. Only what is said of the recipient or
// of the letter is final: who may send at all is for the server's operator to mend.
func letterError(err error) *SendError {
	e := &SendError{Reason: ReasonFailed, Detail: err.Error()}
	said, ok := errors.AsType[*gomail.SendError](err)
	if !ok {
		return e
	}
	e.Code = said.ErrorCode()
	of := said.Reason
	switch {
	case e.Code >= 500 && (of == gomail.ErrSMTPRcptTo || of == gomail.ErrSMTPData || of == gomail.ErrSMTPDataClose):
		e.Reason, e.Permanent = ReasonRefused, true
	case e.Code >= 400:
		e.Reason, e.Relay = ReasonDeferred, of == gomail.ErrSMTPMailFrom
	case isCut(err):
		// One that says nothing has the next letter wait as long.
		e.Reason, e.Relay = ReasonCut, strings.Contains(err.Error(), timedOut)
	}
	return e
}

const timedOut = "i/o timeout"

func isCut(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	text := err.Error() // the library joins texts
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(text, "EOF") || strings.Contains(text, "connection reset") || strings.Contains(text, "broken pipe") || strings.Contains(text, timedOut)
}

package mail

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// parsed is a message as a reader of mail sees it.
type parsed struct {
	header map[string]string
	parts  map[string]string // by media type
}

func parse(t *testing.T, r io.Reader) parsed {
	t.Helper()
	m, err := mail.ReadMessage(r)
	if err != nil {
		t.Fatal(err)
	}
	p := parsed{map[string]string{}, map[string]string{}}
	for name, values := range m.Header {
		if len(values) != 1 {
			t.Errorf("%s is there %d times", name, len(values))
		}
		if name == "Content-Type" || name == "Mime-Version" {
			continue
		}
		if p.header[name], err = new(mime.WordDecoder).DecodeHeader(values[0]); err != nil {
			t.Error(err)
		}
	}
	media, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || media != "multipart/alternative" {
		t.Fatal(media, err)
	}
	for parts := multipart.NewReader(m.Body, params["boundary"]); ; {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return p
		}
		if err != nil {
			t.Fatal(err)
		}
		media, params, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		if err != nil || !strings.EqualFold(params["charset"], "utf-8") || part.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
			t.Error(part.Header, err)
		}
		text, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		p.parts[media] = strings.TrimSuffix(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n\n")
	}
}

// relay is a mail server on loopback.
type relay struct {
	*smtp.Server
	addr  *net.TCPAddr
	stop  func()
	roots *x509.CertPool

	mu       sync.Mutex
	letters  []received
	rcpt     func(to string) error
	data     func(raw []byte) error
	cut      bool // connections, in the midst of a letter
	from     error
	password string
	clear    bytes.Buffer // what arrived without TLS
}

type received struct {
	from, to string
	raw      []byte
	tls      bool
	user     string
}

// listener has everything that comes in remembered.
type listener struct {
	net.Listener
	r *relay
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tapped{c, l.r}, nil
}

type tapped struct {
	net.Conn
	r *relay
}

func (c tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.clear.Write(b[:n])
	return n, err
}

// session is one conversation.
type session struct {
	r    *relay
	conn *smtp.Conn
	got  received
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

func (s *session) Auth(mech string) (sasl.Server, error) {
	check := func(user, password string) error {
		if user != "roster" || password != s.r.password {
			return smtp.ErrAuthFailed
		}
		s.got.user = user
		return nil
	}
	if mech == sasl.Login {
		return nil, smtp.ErrAuthUnknownMechanism
	}
	return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.r.password != "" && s.got.user == "" {
		return smtp.ErrAuthRequired
	}
	s.got.from = from
	return s.r.from
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.got.to = to
	if s.r.rcpt != nil {
		return s.r.rcpt(to)
	}
	return nil
}

func (s *session) Data(r io.Reader) error {
	if s.r.cut {
		_, _ = io.ReadFull(r, make([]byte, 10))
		_ = s.conn.Conn().Close()
		return errors.New("cut")
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.r.data != nil {
		if err := s.r.data(raw); err != nil {
			return err
		}
	}
	s.got.raw = raw
	_, s.got.tls = s.conn.TLSConnectionState()
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.letters = append(s.r.letters, s.got)
	return nil
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

// newRelay starts a mail server with a certificate for 127.0.0.1. change sets it up.
func newRelay(t *testing.T, security Security, change func(*relay)) *relay {
	t.Helper()
	r := &relay{}
	cert, root := certificate(t)
	r.roots = x509.NewCertPool()
	r.roots.AddCert(root)
	r.Server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{r: r, conn: c}, nil }))
	r.Domain, r.EnableSMTPUTF8, r.ErrorLog = "relay.example", true, log.New(io.Discard, "", 0)
	if security != Plain {
		r.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	if change != nil {
		change(r)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().(*net.TCPAddr)
	var in net.Listener = listener{l, r}
	if security == TLS {
		in = tls.NewListener(in, r.TLSConfig)
	}
	done := make(chan error, 1)
	go func() { done <- r.Serve(in) }()
	r.stop = sync.OnceFunc(func() {
		_ = in.Close() // Close does not know of it before Serve has begun
		_ = r.Close()
		<-done
	})
	t.Cleanup(r.stop)
	return r
}

// sender is how to send to the relay.
func (r *relay) sender(security Security) *SMTP {
	s := &SMTP{Server: Server{Host: "127.0.0.1", Port: r.addr.Port, Security: security}, From: sender, Roots: r.roots}
	if r.password != "" {
		s.Username, s.Password = "roster", auth.Secret(r.password)
	}
	return s
}

// sent returns the letters that have arrived.
func (r *relay) sent() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.letters)
}

// overheard returns what somebody on the way could have read.
func (r *relay) overheard() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clear.String()
}

func certificate(t *testing.T) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, root
}

// letter is one with a secret in it.
func letter(t *testing.T, to string) *Letter {
	t.Helper()
	m := invitation(to)
	if err := m.check(); err != nil {
		t.Fatal(err)
	}
	l, err := m.render("en")
	if err != nil {
		t.Fatal(err)
	}
	l.ID, l.Date = "0199-id", begin
	return l
}

const relayPassword = "hunter2-of-the-relay"

// TestSMTP: a letter arrives as it was written, over TLS, by somebody who signed in.
func TestSMTP(t *testing.T) {
	t.Parallel()
	for name, security := range map[string]Security{"STARTTLS": StartTLS, "TLS": TLS, "plain": Plain} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, security, func(r *relay) {
				if security != Plain {
					r.password = relayPassword
				}
			})
			l := letter(t, "ana@example.com")
			said, err := r.sender(security).Say(t.Context(), l)
			if err != nil || !strings.Contains(said, "2.0.0") {
				t.Fatal(said, err)
			}
			if len(r.sent()) != 1 {
				t.Fatalf("%d letters", len(r.sent()))
			}
			got := r.sent()[0]
			if got.from != "roster@example.com" || got.to != "ana@example.com" || got.tls != (security != Plain) || (got.user != "") != (security != Plain) {
				t.Errorf("%+v", got)
			}
			p := parse(t, bytes.NewReader(got.raw))
			if diff := cmp.Diff(map[string]string{"text/plain": l.Text, "text/html": l.HTML}, p.parts); diff != "" || p.header["Subject"] != l.Subject {
				t.Errorf("%s %v", diff, p.header)
			}
			if security != Plain {
				for _, secret := range []string{relayPassword, "ana@example.com", "k7Zq9sTLpWc2"} {
					if strings.Contains(r.overheard(), secret) {
						t.Errorf("%s went over the wire in the clear", secret)
					}
				}
			}
		})
	}
}

// TestNotInTheClear: where there is no TLS that can be trusted, nothing is sent, not
// even the password.
func TestNotInTheClear(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		relay, sender Security
		change        func(*SMTP)
		want          Reason
	}{
		"no STARTTLS":             {Plain, StartTLS, nil, ReasonTLS},
		"unknown authority":       {StartTLS, StartTLS, func(s *SMTP) { s.Roots = x509.NewCertPool() }, ReasonTLS},
		"unknown authority TLS":   {TLS, TLS, func(s *SMTP) { s.Roots = x509.NewCertPool() }, ReasonTLS},
		"another name":            {StartTLS, StartTLS, func(s *SMTP) { s.Host = "localhost" }, ReasonTLS},
		"TLS where there is none": {Plain, TLS, nil, ReasonTLS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, test.relay, func(r *relay) {
				r.password = relayPassword
				r.AllowInsecureAuth = true
			})
			s := r.sender(test.sender)
			if test.change != nil {
				test.change(s)
			}
			err := s.Send(t.Context(), letter(t, "ana@example.com"))
			e, ok := errors.AsType[*SendError](err)
			if !ok || e.Reason != test.want || e.Permanent || !e.Relay {
				t.Errorf("%#v", err)
			}
			for _, secret := range []string{relayPassword, "AHJvc3Rlcg", "ana@example.com", "k7Zq9sTLpWc2"} {
				if strings.Contains(r.overheard(), secret) {
					t.Errorf("%s went over the wire in the clear", secret)
				}
			}
			if len(r.sent()) != 0 {
				t.Error("it was sent")
			}
		})
	}
}

// TestRefusals: what a server says decides whether it is asked again. Errors tell
// nothing of the letter.
func TestRefusals(t *testing.T) {
	t.Parallel()
	refuse := func(code int) error {
		return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1}, Message: "ana@example.com is not wanted"}
	}
	to := func(code int) func(*relay) {
		return func(r *relay) { r.rcpt = func(string) error { return refuse(code) } }
	}
	for name, test := range map[string]struct {
		change func(*relay)
		want   SendError
	}{
		"recipient 550": {to(550), SendError{Reason: ReasonRefused, Code: 550, Permanent: true}},
		"recipient 450": {to(450), SendError{Reason: ReasonDeferred, Code: 450}},
		"letter 554":    {func(r *relay) { r.data = func([]byte) error { return refuse(554) } }, SendError{Reason: ReasonRefused, Code: 554, Permanent: true}},
		"letter 452":    {func(r *relay) { r.data = func([]byte) error { return refuse(452) } }, SendError{Reason: ReasonDeferred, Code: 452}},
		"sender 550":    {func(r *relay) { r.from = refuse(550) }, SendError{Reason: ReasonDeferred, Code: 550, Relay: true}},
		"cut":           {func(r *relay) { r.cut = true }, SendError{Reason: ReasonCut}},
		"no SMTPUTF8":   {func(r *relay) { r.EnableSMTPUTF8 = false }, SendError{Reason: ReasonAddress, Permanent: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, StartTLS, test.change)
			address := "ana@example.com"
			if name == "no SMTPUTF8" {
				address = "åsa@example.com"
			}
			err := r.sender(StartTLS).Send(t.Context(), letter(t, address))
			e, ok := errors.AsType[*SendError](err)
			if !ok {
				t.Fatalf("%#v", err)
			}
			if strings.Contains(err.Error(), address) || len(r.sent()) != 0 {
				t.Errorf("%v, %d letters", err, len(r.sent()))
			}
			got := *e
			got.Detail = ""
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s (%s)", diff, e.Detail)
			}
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		t.Parallel()
		r := newRelay(t, StartTLS, func(r *relay) { r.password = relayPassword })
		s := r.sender(StartTLS)
		s.Password = auth.Secret("zqx-wrong")
		err := s.Send(t.Context(), letter(t, "ana@example.com"))
		e, ok := errors.AsType[*SendError](err)
		if !ok || e.Reason != ReasonSignIn || e.Code != 535 || e.Permanent || !e.Relay || strings.Contains(e.Detail+e.Error(), "zqx") {
			t.Errorf("%#v", err)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		r := newRelay(t, StartTLS, nil)
		s := r.sender(StartTLS)
		r.stop()
		err := s.Send(t.Context(), letter(t, "ana@example.com"))
		if e, ok := errors.AsType[*SendError](err); !ok || e.Reason != ReasonUnreachable || e.Permanent || !e.Relay {
			t.Errorf("%#v", err)
		}
	})
}

// pipes is a listener whose connections are pipes, for which time is that of the test.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error { close(p); return nil }

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p <- there
	return here, nil
}

// TestSlowServer: a server that looks through a letter before it takes it gets it once;
// one that never says anything is left before the lease ends.
func TestSlowServer(t *testing.T) {
	for _, test := range []struct {
		takes time.Duration
		sent  bool
	}{{2 * time.Minute, true}, {time.Hour, false}} {
		synctest.Test(t, func(t *testing.T) {
			r := &relay{data: func([]byte) error { time.Sleep(test.takes); return nil }}
			server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{r: r, conn: c}, nil }))
			server.ErrorLog = log.New(io.Discard, "", 0)
			in := make(pipes)
			done := make(chan error)
			go func() { done <- server.Serve(in) }()
			s := &SMTP{Server: Server{Host: "127.0.0.1", Port: 25, Security: Plain}, From: sender, connect: in.dial}
			began := time.Now()
			err := s.Send(t.Context(), letter(t, "ana@example.com"))
			e, _ := errors.AsType[*SendError](err)
			if (err == nil) != test.sent || e != nil && (e.Reason != ReasonCut || !e.Relay) || time.Since(began) >= lease {
				t.Errorf("a server that takes %s: %v after %s", test.takes, err, time.Since(began))
			}
			_ = server.Close()
			<-done
			time.Sleep(test.takes)
		})
	}
}

// TestAddressesBeyondASCII: they arrive as they were given, their domains in the form
// that every server knows.
func TestAddressesBeyondASCII(t *testing.T) {
	t.Parallel()
	r := newRelay(t, StartTLS, nil)
	for to, want := range map[string]string{
		"åsa@example.com": "åsa@example.com", "ana@exempel-å.se": "ana@xn--exempel--h0a.se", "用户@例子.example": "用户@xn--fsqu00a.example",
	} {
		before := len(r.sent())
		if err := r.sender(StartTLS).Send(t.Context(), letter(t, to)); err != nil {
			t.Errorf("%s: %v", to, err)
			continue
		}
		if got := r.sent()[before]; got.to != want || parse(t, bytes.NewReader(got.raw)).header["Subject"] != "Åsa Öberg has invited you to Fartyg & Söner AB" {
			t.Errorf("%s: %q", to, got.to)
		}
	}
}

// TestHeaders: nothing that people write gets into a header of its own.
func TestHeaders(t *testing.T) {
	t.Parallel()
	r := newRelay(t, StartTLS, nil)
	m := invitation("ana@example.com")
	for _, f := range []string{"inviter", "organisation", "message"} {
		m.Fields[f] = "x\r\nBcc: eva@evil.example\r\n\r\n.\r\nQUIT\r\n" + strings.Repeat("ö", 300)
	}
	if err := m.check(); err != nil {
		t.Fatal(err)
	}
	l, err := m.render("sv")
	if err != nil {
		t.Fatal(err)
	}
	l.ID = "id"
	if err := r.sender(StartTLS).Send(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	p := parse(t, bytes.NewReader(r.sent()[0].raw))
	if len(p.header) != 7 || p.header["Bcc"] != "" || r.sent()[0].to != "ana@example.com" || len(p.parts) != 2 || p.parts["text/plain"] != l.Text {
		t.Errorf("%+v", p)
	}
	for line := range strings.Lines(string(r.sent()[0].raw)) {
		if len(line) > 998+2 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// TestQueueAndServer: what is cut off in the midst is sent again by the queue, and
// arrives; what a server refuses for good is not.
func TestQueueAndServer(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		r := newRelay(t, StartTLS, func(r *relay) { r.password, r.cut = relayPassword, true })
		b := newBench(t, store, r.sender(StartTLS))
		b.put(invitation("ana@example.com"))
		b.round(t.Context())
		list := b.list()
		if len(list) != 1 || list[0].Reason != ReasonCut || list[0].State != StateWaiting {
			t.Fatalf("cut: %+v", list)
		}
		r.cut = false
		b.advance(delays[0])
		b.round(t.Context())
		if len(r.sent()) != 1 || len(b.list()) != 0 {
			t.Fatalf("then: %d letters, left %+v", len(r.sent()), b.list())
		}
		if id := parse(t, bytes.NewReader(r.sent()[0].raw)).header["Message-Id"]; id != "<"+list[0].ID+"@example.com>" {
			t.Errorf("Message-ID %s", id)
		}
		r.rcpt = func(string) error { return &smtp.SMTPError{Code: 550, Message: "no"} }
		b.put(invitation("bo@example.com"))
		b.round(t.Context())
		if list := b.list(); len(list) != 1 || list[0].State != StateDead || list[0].Code != 550 {
			t.Errorf("refused: %+v", list)
		}
		if strings.Contains(b.logs.String(), relayPassword) || strings.Contains(b.logs.String(), "@example.com") {
			t.Errorf("the log has a secret: %s", b.logs)
		}
	})
}

func TestParseServer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Server{
		"smtp://mail.example.com": {"mail.example.com", 587, StartTLS}, "smtp://mail.example.com:25/": {"mail.example.com", 25, StartTLS},
		"smtps://mail.example.com": {"mail.example.com", 465, TLS}, "smtp+plain://127.0.0.1": {"127.0.0.1", 25, Plain},
		"smtp+plain://[::1]:1025": {"::1", 1025, Plain}, "smtp+plain://localhost:1025": {"localhost", 1025, Plain},
	} {
		if got, err := ParseServer(text); err != nil || got != want {
			t.Errorf("ParseServer(%q) = %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "mail.example.com", "mail.example.com:587", "http://mail.example.com", "smtp://", "smtp://mail.example.com:0", "smtp://mail.example.com:99999",
		"smtp://roster:zqx@mail.example.com", "smtp://mail.example.com/zqx", "smtp://mail.example.com?zqx=1", "smtp+plain://mail.example.com", "smtp+plain://192.0.2.1",
		"smtp://roster:z%qx@mail.example.com",
	} {
		if got, err := ParseServer(text); err == nil || strings.Contains(err.Error(), "zqx") {
			t.Errorf("ParseServer(%q) = %+v, %v", text, got, err)
		}
	}
}

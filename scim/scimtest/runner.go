package scimtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Runner plays scripts against one server. Set the fields before the first call.
type Runner struct {
	// URL is below which the paths of scripts are found:
	// "https://roster.example/scim/v2".
	URL string
	// Token is the bearer token of requests without an Authorization header.
	Token string
	// Vars are variables that every script has, such as further tokens.
	Vars map[string]string
	// Client sends the requests; http.DefaultClient if nil. Redirects are
	// answers, not followed. See Direct for a handler without a network.
	Client *http.Client
	// Check, if set, looks at every response, beside what a script says of it.
	Check func(*Exchange) error
}

// Exchange is a request and its response.
type Exchange struct {
	Method, URL string
	Status      int
	Header      http.Header
	Body        []byte
	JSON        any // the body decoded, with json.Number; nil if it is none
}

// Failure is something in a response that is not as the script has it.
type Failure struct {
	Script  string
	Line    int
	Step    string // the request's first line
	Title   string // the comment above it
	Msg     string
	Context string // the response
}

func (f *Failure) Error() string {
	s := fmt.Sprintf("%s:%d: %s: %s", f.Script, f.Line, f.Step, f.Msg)
	if f.Context != "" {
		s += "\n\t" + f.Context
	}
	return s
}

// Play plays a script to its end. The error joins a *[Failure] for each thing
// that was not as it should be.
func (r *Runner) Play(ctx context.Context, s *Script) error {
	p := &play{runner: r, script: s, vars: map[string]variable{"base": {r.URL, true}}}
	for name, value := range r.Vars {
		p.vars[name] = variable{value, true}
	}
	for _, step := range s.Steps {
		p.step(ctx, step)
	}
	p.clean(ctx)
	return errors.Join(p.failures...)
}

// play is one script being played.
type play struct {
	runner   *Runner
	script   *Script
	vars     map[string]variable
	created  []created
	failures []error
}

// variable is a saved value: the text of a string, or JSON.
type variable struct {
	text     string
	isString bool
}

type created struct{ location, authorization string }

func (p *play) fail(s *Step, line int, x *Exchange, format string, args ...any) {
	f := &Failure{Script: p.script.Name, Line: line, Step: s.String(), Title: s.Title, Msg: fmt.Sprintf(format, args...)}
	if x != nil {
		f.Context = short(fmt.Sprintf("the response: %d %s", x.Status, x.Body))
	}
	p.failures = append(p.failures, f)
}

func (p *play) step(ctx context.Context, s *Step) {
	req, err := p.request(ctx, s)
	if err != nil {
		p.fail(s, s.Line, nil, "%v", err)
		return
	}
	x, err := p.runner.send(req)
	if err != nil {
		p.fail(s, s.Line, nil, "%v", err)
		return
	}
	if location := x.Header.Get("Location"); x.Status == http.StatusCreated && strings.HasPrefix(location, p.runner.URL) {
		p.created = append(p.created, created{location, req.Header.Get("Authorization")})
	}
	if p.runner.Check != nil {
		if err := p.runner.Check(x); err != nil {
			p.fail(s, s.Line, x, "%v", err)
		}
	}
	if !slices.Contains(s.statuses, x.Status) {
		p.fail(s, s.Line, x, "got status %d, want %s", x.Status, strings.Trim(fmt.Sprint(s.statuses), "[]"))
		return
	}
	for _, c := range s.checks {
		if msg := p.check(c, x); msg != "" {
			p.fail(s, c.line, x, "%s", msg)
		}
	}
	for _, v := range s.saves {
		if msg := p.save(v, x); msg != "" {
			p.fail(s, v.line, x, "%s", msg)
		}
	}
}

// request makes the request of a step.
func (p *play) request(ctx context.Context, s *Step) (*http.Request, error) {
	target, err := p.fill(s.target, false)
	if err != nil {
		return nil, err
	}
	var body io.Reader
	if s.hasBody {
		text, err := p.fill(s.body, strings.HasPrefix(s.body, "{") || strings.HasPrefix(s.body, "["))
		if err != nil {
			return nil, err
		}
		body = strings.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, s.method, p.runner.URL+escape(target), body)
	if err != nil {
		return nil, err
	}
	if p.runner.Token != "" {
		req.Header.Set("Authorization", "Bearer "+p.runner.Token)
	}
	if s.hasBody {
		req.Header.Set("Content-Type", "application/scim+json")
	}
	for _, f := range s.standing {
		if err := p.setHeader(req, f, http.Header.Set); err != nil {
			return nil, err
		}
	}
	for _, f := range s.header {
		req.Header.Del(f.name)
	}
	for _, f := range s.header {
		if err := p.setHeader(req, f, http.Header.Add); err != nil {
			return nil, err
		}
	}
	return req, nil
}

func (p *play) setHeader(req *http.Request, f field, set func(http.Header, string, string)) error {
	value, err := p.fill(f.value, false)
	switch {
	case err != nil:
		return err
	case value == "":
		req.Header.Del(f.name)
	case strings.EqualFold(f.name, "Host"):
		req.Host = value
	default:
		set(req.Header, f.name, value)
	}
	return nil
}

// escape percent-encodes what may not stand in a request's first line.
func escape(target string) string {
	var b strings.Builder
	for i := range len(target) {
		switch c := target[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			strings.IndexByte("-._~!$&'()*+,;=:@/?%", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

var timesPattern = regexp.MustCompile(`(?s)\{([0-9]+) times\}(.*?)\{end\}`)

// fill puts variables and repetitions in their places.
func (p *play) fill(text string, isJSON bool) (string, error) {
	text = timesPattern.ReplaceAllStringFunc(text, func(m string) string {
		parts := timesPattern.FindStringSubmatch(m)
		n, err := strconv.Atoi(parts[1])
		if err != nil {
			return m
		}
		return strings.Repeat(parts[2], n)
	})
	var missing error
	text = variablePattern.ReplaceAllStringFunc(text, func(m string) string {
		v, ok := p.vars[m[1:len(m)-1]]
		switch {
		case !ok:
			missing = fmt.Errorf("nothing is saved as %s", m)
			return m
		case isJSON && v.isString:
			quoted := encode(v.text)
			return quoted[1 : len(quoted)-1]
		}
		return v.text
	})
	return text, missing
}

// send sends a request and reads the whole response.
func (r *Runner) send(req *http.Request) (*Exchange, error) {
	client := *http.DefaultClient
	if r.Client != nil {
		client = *r.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	x := &Exchange{Method: req.Method, URL: req.URL.String(), Status: resp.StatusCode, Header: resp.Header, Body: body}
	if v, err := decode(body); err == nil {
		x.JSON = v
	}
	return x, nil
}

// check returns what is wrong with a response, or "".
func (p *play) check(c check, x *Exchange) string {
	text, err := p.fill(c.text, c.kind == checkBody || c.kind == checkPath)
	if err != nil {
		return err.Error()
	}
	switch c.kind {
	case checkHeader:
		return checkField(c, text, x.Header.Values(c.name))
	case checkText:
		if bytes.Contains(x.Body, []byte(text)) {
			return "the body contains " + strconv.Quote(text)
		}
		return ""
	}
	if x.JSON == nil {
		return "the body is not JSON"
	}
	if c.anyone {
		if c.path.any(x.JSON) {
			found, _ := c.path.find(x.JSON)
			return fmt.Sprintf("%s: got %s, want nothing", c.path, short(encode(found)))
		}
		return ""
	}
	want, err := decode([]byte(text))
	if err != nil {
		return err.Error()
	}
	if c.kind == checkBody {
		return contains(want, x.JSON, "$")
	}
	got, _ := c.path.find(x.JSON)
	switch same := equal(want, got); {
	case c.not && same:
		return fmt.Sprintf("%s: got %s, want anything else", c.path, short(encode(got)))
	case !c.not && !same:
		return mismatch(want, got, c.path.String())
	}
	return ""
}

func checkField(c check, want string, got []string) string {
	if c.not {
		if len(got) > 0 {
			return fmt.Sprintf("got the header %s: %s, want none", c.name, got[0])
		}
		return ""
	}
	value := strings.Join(got, ", ")
	ok := value == want
	if expr, isExpr := expression(want); isExpr {
		re, err := regexp.Compile(expr)
		if err != nil {
			return err.Error()
		}
		ok = re.MatchString(value)
	}
	if len(got) == 0 || !ok {
		return fmt.Sprintf("got %s: %q, want %q", c.name, value, want)
	}
	return ""
}

func (p *play) save(v save, x *Exchange) string {
	if v.header != "" {
		value := x.Header.Get(v.header)
		if value == "" {
			return "there is no header " + v.header + " to save"
		}
		p.vars[v.name] = variable{value, true}
		return ""
	}
	found, ok := v.path.find(x.JSON)
	if !ok {
		return fmt.Sprintf("there is nothing at %s to save", v.path)
	}
	if s, ok := found.(string); ok {
		p.vars[v.name] = variable{s, true}
	} else {
		p.vars[v.name] = variable{encode(found), false}
	}
	return ""
}

// clean deletes what the script created, the newest first. What is gone already
// is gone.
func (p *play) clean(ctx context.Context) {
	for _, c := range slices.Backward(p.created) {
		req, err := http.NewRequestWithContext(ctx, http.MethodDelete, c.location, nil)
		if err != nil {
			continue
		}
		if c.authorization != "" {
			req.Header.Set("Authorization", c.authorization)
		}
		x, err := p.runner.send(req)
		if err == nil && x.Status != http.StatusNoContent && x.Status != http.StatusNotFound {
			err = fmt.Errorf("got status %d", x.Status)
		}
		if err != nil {
			p.failures = append(p.failures, fmt.Errorf("%s: cannot delete what it created: %w", p.script.Name, err))
		}
	}
}

// Direct returns a client whose requests are answered by h, without a network.
func Direct(h http.Handler) *http.Client { return &http.Client{Transport: direct{h}} }

type direct struct{ handler http.Handler }

func (d direct) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	in := req.Clone(req.Context())
	in.RequestURI = req.URL.RequestURI()
	in.RemoteAddr = "192.0.2.1:49152"
	if in.Host == "" {
		in.Host = req.URL.Host
	}
	in.URL.Scheme, in.URL.Host = "", ""
	if in.Body == nil {
		in.Body = http.NoBody
	}
	defer func() {
		if r := recover(); r != nil {
			resp, err = nil, fmt.Errorf("the handler panicked: %v", r)
		}
	}()
	w := &recorder{header: http.Header{}}
	d.handler.ServeHTTP(w, in)
	w.WriteHeader(http.StatusOK)
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: req,
	}, nil
}

// recorder keeps a response.
type recorder struct {
	header, sent http.Header
	status       int
	body         bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status, w.sent = status, maps.Clone(w.header)
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

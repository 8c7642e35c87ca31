package hrfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Client speaks SCIM with the server that people are imported into, or exported from.
type Client struct {
	base, token string
	http        *http.Client
}

// NewClient returns one for a server's URL; its path may be left out.
func NewClient(address, token string) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errors.New("expected a URL like https://roster.example/scim/v2")
	}
	if token == "" {
		return nil, errors.New("a token of a client is needed, with the scope users")
	}
	if u.Path = strings.TrimSuffix(u.Path, "/"); u.Path == "" {
		u.Path = "/scim/v2"
	}
	return &Client{base: u.String(), token: token, http: &http.Client{
		Timeout: 2 * time.Minute,
		// The token is for this server and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// scimError is the body of an error.
type scimError struct {
	Type   string `json:"scimType"`
	Detail string `json:"detail"`
}

func (e scimError) reason(status string) string {
	return strings.TrimSpace(strings.Join([]string{status, e.Type, e.Detail}, " "))
}

// maxAnswer bounds an answer. A page of 1,000 users has some megabytes.
const maxAnswer = 256 << 20

const (
	// maxTries is how often a request is sent to a server that has no room for it.
	maxTries = 6
	// patience is for how long a request is sent to a server that lets few through; others
	// of the client may be let through before it.
	patience = 10 * time.Minute
)

// do sends a request and reads the answer into out.
func (c *Client) do(ctx context.Context, method, path string, body []byte, out any) error {
	began := time.Now()
	for try := 1; ; try++ {
		r, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+c.token)
		r.Header.Set("Content-Type", "application/scim+json")
		res, err := c.http.Do(r)
		if err != nil {
			// The address has a filter in it, and with it a value.
			if e, ok := errors.AsType[*url.Error](err); ok {
				err = e.Err
			}
			return fmt.Errorf("%s %s: %w", method, c.base, err)
		}
		b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		res.Body.Close()
		switch {
		case err != nil:
			return fmt.Errorf("%s %s: %w", method, c.base, err)
		case res.StatusCode == http.StatusOK:
			return json.Unmarshal(b, out)
		case res.StatusCode == http.StatusServiceUnavailable && try < maxTries, res.StatusCode == http.StatusTooManyRequests && time.Since(began) < patience:
			wait, _ := strconv.Atoi(res.Header.Get("Retry-After"))
			select {
			case <-time.After(time.Duration(min(max(wait, 1), 60)) * time.Second):
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		var e scimError
		_ = json.Unmarshal(b, &e) // a proxy answers as it likes
		return fmt.Errorf("%s %s: %s", method, c.base, e.reason(res.Status))
	}
}

// limits says what a Bulk request may have.
func (c *Client) limits(ctx context.Context) (operations, size int, err error) {
	var out struct {
		Bulk struct {
			Supported     bool `json:"supported"`
			MaxOperations int  `json:"maxOperations"`
			MaxPayload    int  `json:"maxPayloadSize"`
		} `json:"bulk"`
	}
	if err := c.do(ctx, http.MethodGet, "/ServiceProviderConfig", nil, &out); err != nil {
		return 0, 0, err
	}
	if b := out.Bulk; b.Supported && b.MaxOperations > 0 && b.MaxPayload > 4096 {
		return b.MaxOperations, b.MaxPayload, nil
	}
	return 0, 0, errors.New("the server does not offer Bulk")
}

// walk calls do for each user of the server that a filter selects ("" selects all), with these
// attributes.
func (c *Client) walk(ctx context.Context, attributes, filter string, do func(jsontext.Value) error) error {
	cursor := ""
	for {
		var page struct {
			Resources []jsontext.Value `json:"Resources"`
			Next      string           `json:"nextCursor"`
		}
		q := url.Values{"cursor": {cursor}, "count": {"500"}, "attributes": {attributes}}
		if filter != "" {
			q.Set("filter", filter)
		}
		if err := c.do(ctx, http.MethodGet, "/Users?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		for _, r := range page.Resources {
			if err := do(r); err != nil {
				return err
			}
		}
		if cursor = page.Next; cursor == "" {
			return nil
		}
	}
}

// operation is one of a Bulk request.
type operation struct {
	method, path string
	bulkID       string
	data         []byte // JSON

	change *Change
	entry  *entry
	late   bool // without its manager
}

// size is how many bytes it has, at most.
func (o *operation) size() int { return len(o.data) + 256 }

// append appends the operation as it is sent.
func (o *operation) append(b []byte) []byte {
	b = appendText(append(b, `{"method":`...), o.method)
	b = appendText(append(b, `,"path":`...), o.path)
	if o.bulkID != "" {
		b = appendText(append(b, `,"bulkId":`...), o.bulkID)
	}
	return append(append(append(b, `,"data":`...), o.data...), '}')
}

// outcome is that of an operation.
type outcome struct {
	Status   string    `json:"status"`
	Location string    `json:"location"`
	Response scimError `json:"response"`
}

// bulk sends a request.
func (c *Client) bulk(ctx context.Context, ops []*operation) ([]outcome, error) {
	size := 0
	for _, op := range ops {
		size += op.size()
	}
	body := append(make([]byte, 0, size+256), `{"schemas":["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],"Operations":[`...)
	for n, op := range ops {
		if n > 0 {
			body = append(body, ',')
		}
		body = op.append(body)
	}
	body = append(body, "]}"...)
	var out struct {
		Operations []outcome `json:"Operations"`
	}
	if err := c.do(ctx, http.MethodPost, "/Bulk", body, &out); err != nil {
		return nil, err
	}
	if len(out.Operations) != len(ops) {
		return nil, fmt.Errorf("the server answered %d of %d operations", len(out.Operations), len(ops))
	}
	return out.Operations, nil
}

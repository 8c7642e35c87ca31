package events

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/roster-id/roster/storage"
)

// Reason is why an event was not delivered.
type Reason string

// The reasons, beside the errors of RFC 8935 §2.4.
const (
	ReasonUnreachable Reason = "unreachable" // there was no connection or no answer in time
	ReasonForbidden   Reason = "forbidden"   // the address is none that events are sent to
	ReasonRedirect    Reason = "redirect"    // the receiver pointed elsewhere
	ReasonRefused     Reason = "refused"     // the receiver answered with another status than it should
	ReasonGone        Reason = "gone"        // 410
	ReasonReported    Reason = "reported"    // by who polls
	ReasonInternal    Reason = "internal"    // the event could not be made
)

// failure says why an event was not delivered. Nothing of what the receiver said is in
// it but its status, and the error if it is one of RFC 8935.
type failure struct {
	reason Reason
	code   int
	after  time.Duration // for how long the receiver asks to be left alone
}

// setErrors are the errors of RFC 8935 §2.4.
var setErrors = []string{"invalid_request", "invalid_key", "invalid_issuer", "invalid_audience", "authentication_failed", "access_denied"}

// attempt sends an event once, or a nil failure.
func (s *Feeds) attempt(ctx context.Context, f *Feed, c *claims) *failure {
	body, header, err := s.message(f, c)
	if err != nil {
		return &failure{reason: ReasonInternal}
	}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL, bytes.NewReader(body))
	if err != nil {
		return &failure{reason: ReasonInternal}
	}
	r.Header = header
	res, err := s.client.Do(r)
	if err != nil {
		if errors.Is(err, errForbidden) {
			return &failure{reason: ReasonForbidden}
		}
		return &failure{reason: ReasonUnreachable}
	}
	defer res.Body.Close()
	// To its end, so that the connection can be used again; a long answer costs it.
	answer, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	switch {
	case res.StatusCode == http.StatusGone:
		return &failure{reason: ReasonGone, code: res.StatusCode}
	case f.Delivery == Push && res.StatusCode == http.StatusAccepted, f.Delivery == Webhook && res.StatusCode/100 == 2:
		return nil
	case res.StatusCode/100 == 3:
		return &failure{reason: ReasonRedirect, code: res.StatusCode}
	}
	out := &failure{reason: ReasonRefused, code: res.StatusCode}
	var told SetErr
	if f.Delivery == Push && res.StatusCode == http.StatusBadRequest && json.Unmarshal(answer, &told) == nil && slices.Contains(setErrors, told.Err) {
		out.reason = Reason(told.Err) // RFC 8935 §2.3; the description may say anything
	}
	if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && n > 0 {
		out.after = min(time.Duration(min(n, 3600))*time.Second, time.Hour)
	}
	return out
}

// message makes the body and the headers of an event.
func (s *Feeds) message(f *Feed, c *claims) ([]byte, http.Header, error) {
	header := http.Header{"User-Agent": {"Roster"}}
	if f.Delivery == Push { // RFC 8935 §2.1
		token, err := s.sign(c)
		header.Set("Content-Type", "application/secevent+jwt")
		header.Set("Accept", "application/json")
		if f.secrets.Token != "" {
			header.Set("Authorization", "Bearer "+f.secrets.Token)
		}
		return []byte(token), header, err
	}
	body, err := c.body()
	if err != nil {
		return nil, nil, err
	}
	now := s.now()
	keys := []string{f.secrets.Key}
	if f.secrets.Former != "" && now.Before(f.secrets.Until) {
		keys = append(keys, f.secrets.Former)
	}
	var signatures []string
	for _, key := range keys {
		w, err := webhooks.NewWebhook(key)
		if err != nil {
			return nil, nil, errors.New("the secret of a feed is damaged")
		}
		signature, err := w.Sign(c.ID, now, body)
		if err != nil {
			return nil, nil, err
		}
		signatures = append(signatures, signature)
	}
	header.Set("Content-Type", "application/json")
	header[webhooks.HeaderWebhookID] = []string{c.ID} // in lower case, as the specification writes them
	header[webhooks.HeaderWebhookTimestamp] = []string{strconv.FormatInt(now.Unix(), 10)}
	header[webhooks.HeaderWebhookSignature] = []string{strings.Join(signatures, " ")}
	return body, header, nil
}

// Test sends an event that tells of nothing, once, and returns why it was not accepted:
// nothing if it was.
func (s *Feeds) Test(ctx context.Context, tenant storage.TenantID, id string) (Reason, int, error) {
	f, _, err := s.Find(ctx, tenant, id)
	if err != nil {
		return "", 0, err
	}
	if f.Delivery == Poll {
		return "", 0, ErrDelivery
	}
	now := s.now()
	c := &claims{Issuer: s.issuer(), Audience: f.Audience, IssuedAt: now.Unix(), ID: f.eventID(0) + "." + strconv.FormatInt(now.UnixMilli(), 10),
		Events: testEvent}
	if fail := s.attempt(ctx, f, c); fail != nil {
		return fail.reason, fail.code, nil
	}
	return "", 0, nil
}

var testEvent = map[string]jsontext.Value{Verification: jsontext.Value(`{}`)}

func asJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, numbers and lists of them
	}
	return b
}

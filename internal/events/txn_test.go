package events

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

// TestTransactionOfNoRequest: what no request did, such as a move of user names, is a
// transaction too, and has one name for all feeds (RFC 9967 §2.2).
func TestTransactionOfNoRequest(t *testing.T) {
	s := open(t, ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db"))
	var mu sync.Mutex // two feeds tell at once
	txns := map[string][]string{}
	s.client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		token, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body, err := base64.RawURLEncoding.DecodeString(strings.Split(string(token), ".")[1])
		if err != nil {
			return nil, err
		}
		var c claims
		if err := json.Unmarshal(body, &c); err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		txns[c.Subject.ID] = append(txns[c.Subject.ID], c.Txn)
		return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody, Request: r}, nil
	})}
	err := s.store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		for _, feed := range []string{"one", "two"} {
			if err := s.begin(tx, &Feed{ID: feed, Delivery: Push, URL: "https://" + feed + ".example.com/"}); err != nil {
				return err
			}
		}
		for _, id := range []string{"ana", "bo"} {
			if err := tx.Audit(storage.AuditEntry{At: time.Now(), Actor: storage.SystemActor, Action: "user.patch", Type: "User", ID: id, Version: 2}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, feed := range []string{"one", "two"} {
		s.Step(t.Context(), storage.DefaultTenant, feed)
	}
	ana, bo := txns["ana"], txns["bo"]
	if len(ana) != 2 || len(bo) != 2 || ana[0] == "" || ana[0] != ana[1] || bo[0] != bo[1] || ana[0] == bo[0] {
		t.Errorf("the transactions are %q", txns)
	}
}

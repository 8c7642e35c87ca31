package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/roster-id/roster/storage"
)

// SignInKind is the kind of the items that sign-ins are recorded in. They are
// found by the day, and by signInsOf.
const SignInKind = "signin"

// signInDays is for how many days a sign-in is recorded.
const signInDays = 30

const day = 24 * time.Hour

// RecordedSignIn is a sign-in that was accepted.
type RecordedSignIn struct {
	User string    `json:"user"`
	At   time.Time `json:"at"`
	// Device stands for a program on a network: equal for two sign-ins that seem
	// to come from the same one. Neither can be told from it.
	Device string `json:"device"`
	// Rules and Reported are the ids of the rules that applied; see Judgement.
	Rules    []string    `json:"rules,omitempty"`
	Reported []string    `json:"reported,omitempty"`
	Facts    SignInFacts `json:"facts"`
}

// deviceOf returns what RecordedSignIn.Device is for a program, as it calls itself,
// at an address. Addresses change within a network, so the network counts.
func deviceOf(tenant storage.TenantID, user, agent string, from netip.Addr) string {
	h := sha256.New()
	for _, s := range []string{string(tenant), user, networkOf(from, 24, 48).String(), agent} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// recordedDevices returns the devices of the sign-ins that were recorded of a user
// before credentials remembered them. There are none any more 30 days later.
func recordedDevices(ctx context.Context, s storage.Items, tenant storage.TenantID, user string) ([]Device, error) {
	items, err := s.Items(ctx, tenant, SignInKind, user)
	if err != nil {
		return nil, fmt.Errorf("read recorded sign-ins: %w", err)
	}
	var list []Device
	for _, item := range items {
		in, err := recordedFrom(item)
		if err != nil {
			return nil, err
		}
		list = append(list, Device{ID: in.Device, At: in.At})
	}
	return list, nil
}

func recordedFrom(item *storage.Item) (in RecordedSignIn, err error) {
	if json.Unmarshal(item.Data, &in) != nil {
		err = errors.New("a recorded sign-in cannot be read by this version")
	}
	return in, err
}

// record writes a sign-in down.
func record(tx storage.Tx, in RecordedSignIn) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return tx.PutItem(nil, &storage.Item{
		Kind: SignInKind, ID: rand.Text(), Keys: []string{dayKey(in.At), signInsOf(in.User)}, Expires: in.At.Add(signInDays * day), Data: data,
	})
}

// signInsOf is the key of a user's sign-ins. Those that were recorded before credentials
// remembered devices have the bare id instead: recordedDevices reads these alone.
func signInsOf(user string) string { return "user/" + user }

func dayKey(t time.Time) string { return "day/" + t.UTC().Format(time.DateOnly) }

// DryRun says what a rule would have done to recorded sign-ins.
type DryRun struct {
	SignIns  int              // how many were looked at
	Applies  int              // how many of those the rule applies to
	Accounts int              // how many accounts these belong to
	Newest   []RecordedSignIn // some of these, newest first
}

// dryRunShown bounds the sign-ins that a dry run names.
const dryRunShown = 100

// Try says what a rule, whatever its state, would have done to the sign-ins of
// the last 30 days. It reads them a day at a time.
func Try(ctx context.Context, s storage.Items, tenant storage.TenantID, r Rule, now time.Time) (DryRun, error) {
	var run DryRun
	accounts := map[string]bool{}
	for back := range signInDays + 1 {
		items, err := s.Items(ctx, tenant, SignInKind, dayKey(now.Add(-time.Duration(back)*day)))
		if err != nil {
			return DryRun{}, fmt.Errorf("read recorded sign-ins: %w", err)
		}
		var today []RecordedSignIn
		for _, item := range items {
			in, err := recordedFrom(item)
			if err != nil {
				return DryRun{}, err
			}
			if now.Sub(in.At) >= signInDays*day {
				continue
			}
			run.SignIns++
			if in.Facts.BreakGlass || !r.When.Holds(in.Facts) {
				continue
			}
			run.Applies++
			accounts[in.User] = true
			today = append(today, in)
		}
		slices.SortStableFunc(today, func(a, b RecordedSignIn) int { return b.At.Compare(a.At) })
		run.Newest = append(run.Newest, today[:min(len(today), dryRunShown-len(run.Newest))]...)
	}
	run.Accounts = len(accounts)
	return run, nil
}

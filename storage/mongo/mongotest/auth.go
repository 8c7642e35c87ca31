package mongotest

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/xdg-go/scram"
	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	scramMechanism  = "SCRAM-SHA-256"
	scramIterations = 4096 // the least that drivers accept
)

// newScram returns a server that knows one user.
func newScram(tb testing.TB, username, password string) *scram.Server {
	client, err := scram.SHA256.NewClient(username, password, "")
	if err != nil {
		tb.Fatalf("mongotest: %v", err)
	}
	credentials, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: rand.Text(), Iters: scramIterations})
	if err != nil {
		tb.Fatalf("mongotest: %v", err)
	}
	server, err := scram.SHA256.NewServer(func(name string) (scram.StoredCredentials, error) {
		if name != username {
			return scram.StoredCredentials{}, errors.New("unknown user")
		}
		return credentials, nil
	})
	if err != nil {
		tb.Fatalf("mongotest: %v", err)
	}
	return server
}

func (c *connection) authenticated() bool {
	return c.double.scram == nil || c.user != ""
}

var errAuthentication = errorf(authenticationFailed, "Authentication failed.")

func saslStart(r *request) (bson.D, error) {
	mechanism := r.text("mechanism")
	payload := r.binary("payload")
	r.ignore("options", "autoAuthorize")
	if err := r.done(); err != nil {
		return nil, err
	}
	if r.double.scram == nil || mechanism != scramMechanism || r.db != "admin" {
		return nil, errAuthentication
	}
	r.conn.conversation = r.double.scram.NewConversation()
	return r.conn.step(payload)
}

func saslContinue(r *request) (bson.D, error) {
	payload := r.binary("payload")
	r.ignore("conversationId")
	if err := r.done(); err != nil {
		return nil, err
	}
	if r.conn.conversation == nil {
		return nil, errAuthentication
	}
	return r.conn.step(payload)
}

func (c *connection) step(payload []byte) (bson.D, error) {
	conversation := c.conversation
	var answer string
	// A client that does not ask to skip it ends with an empty step.
	if !conversation.Done() {
		var err error
		if answer, err = conversation.Step(string(payload)); err != nil {
			c.conversation = nil
			return nil, errAuthentication
		}
	}
	if conversation.Done() {
		if !conversation.Valid() {
			c.conversation = nil
			return nil, errAuthentication
		}
		c.user = conversation.Username()
	}
	return bson.D{
		{Key: "conversationId", Value: int32(1)},
		{Key: "done", Value: conversation.Done()},
		{Key: "payload", Value: bson.Binary{Data: []byte(answer)}},
	}, nil
}

func (a *arguments) binary(name string) []byte {
	v, ok := a.take(name)
	if !ok {
		return nil
	}
	_, b, ok := v.BinaryOK()
	if !ok {
		a.mismatch(name, v, "binData")
	}
	return b
}

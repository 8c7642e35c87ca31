package mongotest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// startMongod starts the mongod on the PATH as a replica set of one, or returns
// nil when there is none.
func startMongod(tb testing.TB) *Server {
	tb.Helper()
	program, err := exec.LookPath("mongod")
	if err != nil {
		return nil
	}
	port := freePort(tb)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	var log bytes.Buffer
	cmd := exec.Command(program, "--replSet", replicaSet, "--bind_ip", "127.0.0.1", "--port", strconv.Itoa(port), "--dbpath", tb.TempDir())
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		tb.Fatalf("mongotest: %s: %v", program, err)
	}
	ended := supervise(tb, cmd)
	if err := initiate(addr, ended); err != nil {
		_ = cmd.Process.Kill()
		<-ended
		tb.Fatalf("mongotest: %s did not become a replica set: %v\n%s", program, err, log.Bytes())
	}
	s := &Server{Kind: KindMongod, address: address{before: "mongodb://" + addr, options: "replicaSet=" + replicaSet}}
	s.Version = s.version(tb)
	return s
}

// supervise returns a channel that is closed when a program has ended, and ends
// it with the test.
func supervise(tb testing.TB, cmd *exec.Cmd) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	return ended
}

// initiate makes a server the primary of a new replica set.
func initiate(addr string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	c, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + addr + "/?directConnection=true&serverSelectionTimeoutMS=60000"))
	if err != nil {
		return err
	}
	defer func() { _ = c.Disconnect(context.WithoutCancel(ctx)) }()
	admin := c.Database("admin")
	members := bson.A{bson.D{{Key: "_id", Value: 0}, {Key: "host", Value: addr}}}
	set := bson.D{{Key: "_id", Value: replicaSet}, {Key: "members", Value: members}}
	err = admin.RunCommand(ctx, bson.D{{Key: "replSetInitiate", Value: set}}).Err()
	if e, ok := errors.AsType[mongo.CommandError](err); err != nil && (!ok || e.Code != alreadyInitialized) {
		return err
	}
	for {
		var hello struct {
			Primary bool `bson:"isWritablePrimary"`
		}
		if err := admin.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err == nil && hello.Primary {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func freePort(tb testing.TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("mongotest: %v", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

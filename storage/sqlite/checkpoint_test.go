package sqlite

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
)

// TestLogBeginsAnew: the log is moved into the file while writes go on, and however busy
// the writer is, it does not grow without end.
func TestLogBeginsAnew(t *testing.T) {
	const at, pageAndHeader = 100, 4096 + 24
	for name, writers := range map[string]int{"busy": 64, "one after the other": 1} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "roster.db")
			s := open(t, path, Options{checkpointAt: at})
			defer s.Close()
			look, err := openConn(path, writer)
			if err != nil {
				t.Fatal(err)
			}
			defer look.Close()
			next := make(chan int)
			var g sync.WaitGroup
			for range writers {
				g.Go(func() {
					for n := range next {
						if err := write(s, creating(n)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			before, most, begun := 0, 0, 0
			for n := range 4000 {
				next <- n
				if n%20 == 0 {
					pages, _, err := logPages(look)
					if err != nil {
						t.Error(err)
					}
					if pages < before {
						begun++
					}
					before, most = pages, max(most, pages)
				}
			}
			close(next)
			g.Wait()
			// It grows between two looks of the writer, too.
			if limit := 2*anewAt*at + 64*commitsBetweenLooks; most > limit || begun < 2 {
				t.Errorf("the log had up to %d pages, at most %d expected, and began anew %d times", most, limit, begun)
			}
			if info, err := os.Stat(path + "-wal"); err != nil || info.Size() < at*pageAndHeader {
				t.Errorf("the log: %v, %v", info, err)
			}
			t.Logf("up to %d pages, begun anew %d times", most, begun)
		})
	}
}

// TestLogBehindReaders: reads that overlap without end, each of them short, do not keep the log from
// beginning anew.
func TestLogBehindReaders(t *testing.T) {
	const at = 100
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{checkpointAt: at, insistFor: time.Minute}) // however slow the machine is
	defer s.Close()
	look, err := openConn(path, writer)
	if err != nil {
		t.Fatal(err)
	}
	defer look.Close()

	stop, handOver := make(chan struct{}), make(chan struct{})
	var g sync.WaitGroup
	for range 2 {
		g.Go(func() {
			for {
				err := s.snapshot(t.Context(), func(c *sqlite.Conn) error {
					if _, err := highest(c, `SELECT max(n) FROM resource`); err != nil {
						return err
					}
					time.Sleep(time.Millisecond) // so that there is something to read from the log
					select {
					case handOver <- struct{}{}: // the one before may end, and this one waits for the next
						select {
						case <-handOver:
						case <-stop:
						}
					case <-handOver:
					case <-stop:
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	most, begun, before := 0, 0, 0
	for n := range 1500 {
		if err := write(s, creating(n)); err != nil {
			t.Fatal(err)
		}
		pages, _, err := logPages(look)
		if err != nil {
			t.Fatal(err)
		}
		if pages < before {
			begun++
		}
		before, most = pages, max(most, pages)
	}
	close(stop)
	g.Wait()
	if limit := insistAt*at + 10*commitsBetweenLooks; most > limit || begun == 0 {
		t.Errorf("the log had up to %d pages, at most %d expected, and began anew %d times", most, limit, begun)
	}
	t.Logf("up to %d pages, begun anew %d times", most, begun)
}

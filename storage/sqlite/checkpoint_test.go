package sqlite

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
)

// logWatch looks at the log of a store beside it.
type logWatch struct {
	t           *testing.T
	conn        *sqlite.Conn
	pages       int // when it looked last
	most, begun int // pages, and how often they were fewer
}

func watch(t *testing.T, path string) *logWatch {
	t.Helper()
	c, err := openConn(path, writer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &logWatch{t: t, conn: c}
}

func (w *logWatch) look() {
	w.t.Helper()
	pages, _, err := logPages(w.conn)
	if err != nil {
		w.t.Error(err)
	}
	if pages < w.pages {
		w.begun++
	}
	w.pages, w.most = pages, max(w.most, pages)
}

// TestLogBeginsAnew: the log is moved into the file while writes go on, and however busy
// the writer is, it does not grow without end.
func TestLogBeginsAnew(t *testing.T) {
	const at, pageAndHeader = 100, 4096 + 24
	for name, writers := range map[string]int{"busy": 64, "one after the other": 1} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "roster.db")
			s := open(t, path, Options{checkpointAt: at})
			defer s.Close()
			log := watch(t, path)
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
			for n := range 4000 {
				next <- n
				if n%20 == 0 {
					log.look()
				}
			}
			close(next)
			g.Wait()
			// It grows between two looks of the writer, too.
			if limit := 2*anewAt*at + 64*commitsBetweenLooks; log.most > limit || log.begun < 2 {
				t.Errorf("the log had up to %d pages, at most %d expected, and began anew %d times", log.most, limit, log.begun)
			}
			if info, err := os.Stat(path + "-wal"); err != nil || info.Size() < at*pageAndHeader {
				t.Errorf("the log: %v, %v", info, err)
			}
			t.Logf("up to %d pages, begun anew %d times", log.most, log.begun)
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
	log := watch(t, path)

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
	for n := range 1500 {
		if err := write(s, creating(n)); err != nil {
			t.Fatal(err)
		}
		log.look()
	}
	close(stop)
	g.Wait()
	if limit := insistAt*at + 10*commitsBetweenLooks; log.most > limit || log.begun == 0 {
		t.Errorf("the log had up to %d pages, at most %d expected, and began anew %d times", log.most, limit, log.begun)
	}
	t.Logf("up to %d pages, begun anew %d times", log.most, log.begun)
}

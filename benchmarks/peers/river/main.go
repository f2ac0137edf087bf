// River on SQLite (modernc.org/sqlite, one connection, WAL) or PostgreSQL (pgx's pool): one order as JSON on the
// command line, one answer as JSON on standard output, as benchmarks/contender.py says.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite"
)

const slots = 64

type order struct {
	Role        string `json:"role"`
	Folder      string `json:"folder"`
	Missions    int    `json:"missions"`
	Dispatchers int    `json:"dispatchers"`
	Synchronous string `json:"synchronous"`
	DSN         string `json:"dsn"`
	Server      int    `json:"server"`
	Tell        string `json:"tell"`
}

type mission struct {
	Objective string `json:"objective"`
}

func (mission) Kind() string { return "mission" }

type worker struct {
	river.WorkerDefaults[mission]
	started func()
}

func (w *worker) Work(context.Context, *river.Job[mission]) error {
	w.started()
	return nil
}

func main() {
	var asked order
	check(json.Unmarshal([]byte(os.Args[1]), &asked))
	ctx := context.Background()
	var answer any
	if asked.DSN == "" {
		url := fmt.Sprintf("file:%s/queue.db?_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=synchronous(%s)",
			asked.Folder, asked.Synchronous)
		pool := must(sql.Open("sqlite", url))
		pool.SetMaxOpenConns(1) // what its driver asks for
		answer = run(ctx, riversqlite.New(pool), asked)
	} else {
		config := must(pgxpool.ParseConfig(asked.DSN))
		config.MaxConns = 32
		answer = run(ctx, riverpgxv5.New(must(pgxpool.NewWithConfig(ctx, config))), asked)
	}
	fmt.Println(string(must(json.Marshal(answer))))
}

func run[TX any](ctx context.Context, driver riverdriver.Driver[TX], asked order) any {
	if asked.Role != "worker" {
		must(must(rivermigrate.New(driver, nil)).Migrate(ctx, rivermigrate.DirectionUp, nil))
	}
	dispatcher := client(driver, nil)
	switch asked.Role {
	case "worker":
		serve(ctx, driver, asked)
		return nil
	case "latency":
		return latencies(ctx, dispatcher, asked)
	default:
		return throughput(ctx, driver, dispatcher, asked)
	}
}

func client[TX any](driver riverdriver.Driver[TX], started func()) *river.Client[TX] {
	config := &river.Config{Logger: slog.New(slog.DiscardHandler)}
	if started != nil {
		workers := river.NewWorkers()
		river.AddWorker(workers, &worker{started: started})
		config.Workers = workers
		config.FetchCooldown = time.Millisecond
		config.FetchPollInterval = 20 * time.Millisecond
		config.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: slots}}
	}
	return must(river.NewClient(driver, config))
}

func throughput[TX any](ctx context.Context, driver riverdriver.Driver[TX], dispatcher *river.Client[TX], asked order) map[string]float64 {
	before, start := cpu(asked.Server), time.Now()
	var everybody sync.WaitGroup
	for range asked.Dispatchers {
		everybody.Go(func() {
			for range asked.Missions / asked.Dispatchers {
				must(dispatcher.Insert(ctx, mission{"Write a summary"}, nil))
			}
		})
	}
	everybody.Wait()
	dispatched := time.Since(start)

	var nothing atomic.Int64
	working := client(driver, func() { nothing.Add(1) })
	ended, stop := working.Subscribe(river.EventKindJobCompleted)
	defer stop()
	start = time.Now()
	check(working.Start(ctx))
	for range asked.Missions {
		<-ended // after the commit
	}
	worked := time.Since(start)
	spent := cpu(asked.Server) - before
	check(working.Stop(ctx))
	return map[string]float64{"dispatch": dispatched.Seconds(), "work": worked.Seconds(), "cpu": spent}
}

func serve[TX any](ctx context.Context, driver riverdriver.Driver[TX], asked order) {
	mouth := must(net.Dial("unixgram", asked.Tell))
	tell := func() { must(mouth.Write([]byte(strconv.FormatInt(monotonic(), 10)))) }
	check(client(driver, tell).Start(ctx))
	time.Sleep(time.Second) // until it listens and leads
	tell()
	select {}
}

func latencies[TX any](ctx context.Context, dispatcher *river.Client[TX], asked order) []float64 {
	ear := must(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: asked.Tell, Net: "unixgram"}))
	word := make([]byte, 32)
	fmt.Println("listening") // whoever measures starts the worker now
	must(ear.Read(word))     // the worker is ready
	found := make([]float64, asked.Missions)
	for number := range found {
		time.Sleep(time.Duration(110_000+37_300*(number%7)) * time.Microsecond)
		start := monotonic()
		must(dispatcher.Insert(ctx, mission{"Write a summary"}, nil))
		length := must(ear.Read(word))
		found[number] = float64(must(strconv.ParseInt(string(word[:length]), 10, 64))-start) / 1e6
	}
	return found
}

func monotonic() int64 {
	var now unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return now.Nano()
}

// cpu gives the seconds of this process and of a database server with its children.
func cpu(server int) float64 {
	var usage unix.Rusage
	check(unix.Getrusage(unix.RUSAGE_SELF, &usage))
	spent := float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
	if server == 0 {
		return spent
	}
	children := must(os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", server, server)))
	for _, pid := range append(strings.Fields(string(children)), strconv.Itoa(server)) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			continue // it has ended
		}
		for _, ticks := range strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[11:15] {
			spent += must(strconv.ParseFloat(ticks, 64)) / 100
		}
	}
	return spent
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

// supervisePause is the time between two looks at what runs.
const supervisePause = time.Second

// supervise starts API servers again that have ended, and the manager, until ctx is done: people try what
// happens when they kill one.
func supervise(ctx context.Context, env *localenv.Env) {
	look := time.NewTicker(supervisePause)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil {
			return // both were ready: what stops now is not to be started again
		}
		for _, cluster := range append([]*localenv.Cluster{env.Hub}, env.Targets...) {
			report(reviveAPIServer(ctx, cluster))
		}
		report(reviveManager(ctx, env))
	}
}

func report(err error) {
	if err != nil {
		fmt.Println(err)
	}
}

func reviveAPIServer(ctx context.Context, cluster *localenv.Cluster) error {
	if _, err := cluster.PID(localcluster.APIServer); err == nil || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	fmt.Printf("the API server of %s has ended; starting it again\n", cluster.Name())
	if err := cluster.StopProgram(localcluster.APIServer); err != nil {
		return err
	}
	return cluster.StartProgram(ctx, localcluster.APIServer)
}

func reviveManager(ctx context.Context, env *localenv.Env) error {
	if manager := env.Manager(); manager != nil { // else the last start failed
		select {
		case <-manager.Ended():
		default:
			return nil
		}
	}
	fmt.Println("the manager has ended; starting it again")
	return env.StartManager(ctx)
}

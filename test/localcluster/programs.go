package localcluster

import (
	"context"
	"errors"
	"fmt"
)

// Program is the name of one of the programs that make a cluster.
type Program string

// The programs of a cluster: etcd and the API server, with Options.Workloads the controller
// manager and the scheduler, and kwok or, with Options.RealNode, the kubelet.
const (
	Etcd              Program = "etcd"
	APIServer         Program = "kube-apiserver"
	ControllerManager Program = "kube-controller-manager"
	Scheduler         Program = "kube-scheduler"
	Kwok              Program = "kwok"
	Kubelet           Program = "kubelet"
)

// The programs of a real node that are nobody's to stop: the keeper is the process
// that the others live and die with.
const (
	containerd Program = "containerd"
	keeper     Program = "realnode"
)

// StopProgram ends one program and leaves the others running: a cluster without
// its API server refuses connections, one without its kwok has dead nodes, and so
// on; one without its etcd answers errors. etcd and the API server end in order, the
// others are killed. Stopping a stopped program does nothing.
func (c *Cluster) StopProgram(program Program) error {
	c.running.Lock()
	defer c.running.Unlock()
	if program == APIServer {
		// While it stands still it does not hear that it shall end.
		if err := c.resumeAll(); err != nil {
			return fmt.Errorf("stopping %s of cluster %s: %w", program, c.name, err)
		}
		if err := c.plane.APIServer.Stop(); err != nil {
			return fmt.Errorf("stopping %s of cluster %s: %w", program, c.name, err)
		}
		c.serverDown = true
		return nil
	}
	if program == Etcd {
		if err := c.plane.Etcd.Stop(); err != nil {
			return fmt.Errorf("stopping %s of cluster %s: %w", program, c.name, err)
		}
		c.etcdDown = true
		return nil
	}
	p, err := c.process(program)
	if err != nil {
		return err
	}
	return p.kill()
}

// StartProgram starts a program again that StopProgram ended, on the same port
// and with the same state, certificates and flags. etcd and the API server are healthy
// when StartProgram returns; the others need a moment more. The context bounds the
// start, which takes two minutes at most.
func (c *Cluster) StartProgram(ctx context.Context, program Program) error {
	c.running.Lock()
	defer c.running.Unlock()
	if c.ended {
		return fmt.Errorf("starting %s of cluster %s: the cluster was stopped", program, c.name)
	}
	if program == APIServer {
		return c.restart(ctx, APIServer, &c.serverDown, c.startAPIServer, c.plane.APIServer.Stop)
	}
	if program == Etcd {
		return c.restart(ctx, Etcd, &c.etcdDown, c.startEtcd, c.plane.Etcd.Stop)
	}
	p, err := c.process(program)
	if err != nil {
		return err
	}
	if p.cmd != nil {
		return errors.Join(p.crashed(), fmt.Errorf("%s of cluster %s: stop it before it is started again", program, c.name))
	}
	return p.start()
}

// restart starts a part of the control plane that was stopped alone.
func (c *Cluster) restart(ctx context.Context, program Program, down *bool, start func(context.Context) (bool, error), stop func() error) error {
	if !*down {
		return fmt.Errorf("%s of cluster %s: stop it before it is started again", program, c.name)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if _, err := start(ctx); err != nil {
		return fmt.Errorf("starting %s of cluster %s again: %w", program, c.name, errors.Join(err, stop()))
	}
	*down = false
	return nil
}

// process finds a program that this package runs by itself.
func (c *Cluster) process(program Program) (*process, error) {
	for _, p := range c.processes {
		if p.program == program && program != keeper {
			return p, nil
		}
	}
	return nil, fmt.Errorf("cluster %s has no program %q that can be stopped and started", c.name, program)
}

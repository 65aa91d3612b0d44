package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// cgroupMount is where every distribution mounts the hierarchies: the single one of
// version 2, or one folder for each controller of version 1.
const cgroupMount = "/sys/fs/cgroup"

// makeCgroups makes a cgroup in each hierarchy, below which a kubelet puts its own.
func makeCgroups(name string) error {
	controllers, err := os.ReadFile(filepath.Join(cgroupMount, "cgroup.controllers"))
	if err == nil {
		return makeUnified(name, strings.Fields(string(controllers)))
	}
	hierarchies, err := filepath.Glob(filepath.Join(cgroupMount, "*/cgroup.procs"))
	if err != nil {
		return err
	}
	if len(hierarchies) == 0 {
		return fmt.Errorf("no cgroups are mounted at %s", cgroupMount)
	}
	for _, hierarchy := range hierarchies {
		if err := os.MkdirAll(filepath.Join(filepath.Dir(hierarchy), name), 0o755); err != nil {
			return fmt.Errorf("making a cgroup: %w", err)
		}
	}
	return nil
}

// makeUnified also hands the controllers down, which the root does only when told.
func makeUnified(name string, controllers []string) error {
	for _, controller := range controllers {
		// One that cannot be handed down is missed by the kubelet, if by anybody.
		_ = os.WriteFile(filepath.Join(cgroupMount, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
	}
	if err := os.MkdirAll(filepath.Join(cgroupMount, name), 0o755); err != nil {
		return fmt.Errorf("making a cgroup: %w", err)
	}
	return nil
}

// removeCgroups removes the cgroup, and all below it, from each hierarchy.
func removeCgroups(name string) error {
	roots, err := filepath.Glob(filepath.Join(cgroupMount, "*", name))
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range append(roots, filepath.Join(cgroupMount, name)) {
		var folders []string
		_ = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				folders = append(folders, path)
			}
			return nil
		})
		for i := len(folders) - 1; i >= 0; i-- { // the inner ones come last
			errs = append(errs, os.Remove(folders[i]))
		}
	}
	return errors.Join(errs...)
}

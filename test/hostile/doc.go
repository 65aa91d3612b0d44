// Package hostile attacks a manager from everywhere that an attack can come from: by targets that
// answer as no API server would, and say so of runs; by tenants that fill the hub; by readers of
// logs. The manager runs in a memory cgroup of the size that its Deployment has, the log API in
// another, with another target and another tenant at work. Both must live, the manager must take at
// most 64 MiB more than without the attack, and the others' runs must end as they would.
//
// Each attack by a target also has the condition that its ClusterConnection must come to.
package hostile

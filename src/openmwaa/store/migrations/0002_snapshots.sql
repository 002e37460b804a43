-- Snapshots of environments. Not bound to `environments`: they outlive them. A row is the
-- only list of snapshots; one in state `available` has a manifest object below `prefix`.
CREATE TABLE snapshots (
    id               text PRIMARY KEY CHECK (id ~ '^snap-[a-z0-9]{16}$'),
    environment_id   text NOT NULL,
    environment_name text NOT NULL,
    region           text NOT NULL,
    account          text NOT NULL,
    airflow_version  text NOT NULL,
    state            text NOT NULL DEFAULT 'creating'
                     CHECK (state IN ('creating', 'available', 'failed', 'deleting')),
    reason           text NOT NULL CHECK (reason IN ('manual', 'scheduled', 'before-restore', 'before-change')),
    pinned           boolean NOT NULL DEFAULT false,
    created_at       timestamptz NOT NULL DEFAULT now(),
    completed_at     timestamptz,
    -- While it is made: what was stored so far.
    size_bytes       bigint NOT NULL DEFAULT 0,
    parts            jsonb NOT NULL DEFAULT '[]',
    prefix           text,
    error            text,
    -- the work in between
    attempts         integer NOT NULL DEFAULT 0,
    next_attempt_at  timestamptz NOT NULL DEFAULT now(),
    lease_holder     text,
    lease_token      bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz,
    CHECK ((state = 'available') <= (prefix IS NOT NULL AND completed_at IS NOT NULL))
);
CREATE INDEX snapshots_by_environment ON snapshots (environment_name, created_at);
CREATE INDEX snapshots_due ON snapshots (next_attempt_at) WHERE state IN ('creating', 'deleting');

-- Ends with its environment; what it made stays.
CREATE TABLE snapshot_schedules (
    environment_id text PRIMARY KEY,
    every_s        bigint NOT NULL CHECK (every_s >= 60),
    keep           integer CHECK (keep >= 1),
    max_age_s      bigint CHECK (max_age_s >= 60),
    next_at        timestamptz NOT NULL,
    set_at         timestamptz NOT NULL DEFAULT now()
);

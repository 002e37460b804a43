-- Which replacement without a changed field was the last is part of what is wanted, so that undoing a
-- change undoes it too.
UPDATE environments SET spec = spec || jsonb_build_object('roll', roll) WHERE NOT spec ? 'roll';
UPDATE environments SET good_spec = good_spec || jsonb_build_object('roll', roll)
    WHERE good_spec IS NOT NULL AND NOT good_spec ? 'roll';
ALTER TABLE environments DROP COLUMN roll;

//! What happens to a lane in Redis at once, or not at all.
//!
//! A lane has three keys under one hash tag: the stream `s`, the hash `h` of who holds it, and the hash `b` of runs of
//! redelivered work that have begun. In `h`, a field per holder says `slots:deadline` (milliseconds of Redis's clock), two
//! fields count what nobody has read yet: `#e` entries, `#w` invocations; `#d` is 1 where runs are brief, and `#l` is the most
//! runs that the action may have at one time.

use crate::link::Script;

/// Appends one entry, unless too much waits.
///
/// Keys: stream, holders, and where the payload goes if it is large. Arguments: invocations in it, most invocations waiting,
/// longest wait of the oldest (ms), version, payload, how long a large payload is kept (s), most runs of the action (0: no limit).
/// Answers `{1, entries waiting before, now, [holders], whether runs are brief, the entry}`, or
/// `{0, age of the oldest in ms, now, [], "", ""}`.
pub(super) static PUSH: Script = Script::new(
    "local t = redis.call('TIME') \
     local now = t[1] * 1000 + math.floor(t[2] / 1000) \
     if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('XGROUP', 'CREATE', KEYS[1], 'w', '0', 'MKSTREAM') end \
     local n, entries, works, limit, brief, holders = tonumber(ARGV[1]), 0, 0, '0', '', {} \
     local all = redis.call('HGETALL', KEYS[2]) \
     for i = 1, #all, 2 do \
       local name, value = all[i], all[i + 1] \
       if name == '#e' then entries = tonumber(value) \
       elseif name == '#w' then works = tonumber(value) \
       elseif name == '#l' then limit = value \
       elseif name == '#d' then brief = value \
       else \
         local deadline = string.match(value, ':(%d+)$') \
         if deadline and tonumber(deadline) >= now then holders[#holders + 1] = name end \
       end \
     end \
     if entries > 0 then \
       local last, age = '0', 0 \
       for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
         for i = 1, #group, 2 do if group[i] == 'last-delivered-id' then last = group[i + 1] end end \
       end \
       local oldest = redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', 1) \
       if oldest[1] then age = now - tonumber(string.match(oldest[1][1], '^(%d+)')) end \
       if works + n > tonumber(ARGV[2]) or age >= tonumber(ARGV[3]) then return { 0, age, now, {}, '', '' } end \
     end \
     local id \
     if KEYS[3] then \
       redis.call('SET', KEYS[3], ARGV[5], 'EX', ARGV[6]) \
       id = redis.call('XADD', KEYS[1], '*', 'v', ARGV[4], 'n', n, 'k', KEYS[3]) \
     else \
       id = redis.call('XADD', KEYS[1], '*', 'v', ARGV[4], 'n', n, 'b', ARGV[5]) \
     end \
     redis.call('HSET', KEYS[2], '#e', entries + 1, '#w', works + n) \
     if limit ~= ARGV[7] then \
       if ARGV[7] == '0' then redis.call('HDEL', KEYS[2], '#l') else redis.call('HSET', KEYS[2], '#l', ARGV[7]) end \
     end \
     return { 1, entries, now, holders, brief, id }",
);

/// Whether an entry waited too long and nobody has read it; it is removed, if that is asked for.
///
/// Whoever reads it from then on finds it too old as well, by the same clock.
///
/// Keys: stream, holders. Arguments: entry, longest wait (ms), invocations in it, 1 to remove it, how the
/// name of its payload begins if that lies beside it.
/// Answers 1; 0 when somebody has read it; 2 when it has not waited for so long yet.
pub(super) static OVERDUE: Script = Script::new(
    "local t = redis.call('TIME') \
     local now = t[1] * 1000 + math.floor(t[2] / 1000) \
     local function parts(id) \
       local ms, n = string.match(id, '^(%d+)-(%d+)$') \
       return tonumber(ms) or 0, tonumber(n) or 0 \
     end \
     if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end \
     local ms, n = parts(ARGV[1]) \
     for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
       for i = 1, #group, 2 do \
         if group[i] == 'last-delivered-id' then \
           local last_ms, last_n = parts(group[i + 1]) \
           if ms < last_ms or (ms == last_ms and n <= last_n) then return 0 end \
         end \
       end \
     end \
     if now - ms < tonumber(ARGV[2]) then return 2 end \
     local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) \
     if ARGV[4] == '1' and redis.call('XDEL', KEYS[1], ARGV[1]) == 1 then \
       for i = 1, #found[1][2], 2 do \
         local beside = found[1][2][i + 1] \
         if found[1][2][i] == 'k' and string.sub(beside, 1, #ARGV[5]) == ARGV[5] then redis.call('DEL', beside) end \
       end \
       redis.call('HINCRBY', KEYS[2], '#e', -1) \
       redis.call('HINCRBY', KEYS[2], '#w', -ARGV[3]) \
     end \
     return 1",
);

/// Claims slots and reads entries: new ones, and those of holders whose lease has ended.
///
/// Whoever comes to a lane gives those a lease who have entries and are not known as holders, because somebody removed the
/// key by hand: who lives renews it, and who does not is taken over when it ends.
///
/// Keys: stream, holders. Arguments: our name, lease (ms), slots we want to have, most entries, most entries per slot,
/// entries of ours by now, what the clock must say about now for leases to be judged by it (0: whatever it says; -1: they are not),
/// 1 where an answer may have been missed: then what is ours already comes with what was taken over, from us.
///
/// A lease that ends later than any can is one by another clock, and ends a lease from now.
/// Answers `{now, slots of ours, entries waiting, [[id, [fields]]…] new, [[id, [fields]]…] taken over, 1 if more is to be
/// taken over, most runs of the action}`.
pub(super) static PULL: Script = Script::new(
    "local t = redis.call('TIME') \
     local now = t[1] * 1000 + math.floor(t[2] / 1000) \
     local me, lease, want, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]) \
     local believed = tonumber(ARGV[7]) \
     local is_judged = believed == 0 or (believed > 0 and math.abs(now - believed) <= lease / 2) \
     if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) return { now, 0, 0, {}, {}, 0, 0 } end \
     local all = redis.call('HGETALL', KEYS[2]) \
     local sum, mine, known, dead, max, waiting, works = 0, 0, false, {}, 0, 0, 0 \
     for i = 1, #all, 2 do \
       local slots, deadline = string.match(all[i + 1], '^(%d+):(%d+)$') \
       if slots then \
         if all[i] == me then mine = tonumber(slots) known = true \
         elseif tonumber(deadline) < now and (is_judged or all[i] == '-') then dead[#dead + 1] = all[i] \
         else \
           sum = sum + tonumber(slots) \
           if tonumber(deadline) > now + 2 * lease then redis.call('HSET', KEYS[2], all[i], slots .. ':' .. (now + lease)) end \
         end \
       elseif all[i] == '#l' then max = tonumber(all[i + 1]) or 0 \
       elseif all[i] == '#e' then waiting = tonumber(all[i + 1]) or 0 \
       elseif all[i] == '#w' then works = tonumber(all[i + 1]) or 0 end \
     end \
     if max > 0 then \
       if #dead == 0 then want = math.min(want, tonumber(ARGV[6]) + works) end \
       local grant = math.min(want, max - sum) - mine \
       if grant > 0 then mine = mine + grant end \
       count = math.max(0, math.min(count, mine * tonumber(ARGV[5]) - tonumber(ARGV[6]))) \
       if mine == 0 then return { now, 0, waiting, {}, {}, 0, max } end \
     end \
     local again, more = {}, 0 \
     if ARGV[8] == '1' then \
       for _, one in ipairs(redis.call('XPENDING', KEYS[1], 'w', '-', '+', 4 * count + 64 + ARGV[6], me)) do \
         local got = redis.call('XCLAIM', KEYS[1], 'w', me, 0, one[1], 'RETRYCOUNT', one[4]) \
         if got[1] then again[#again + 1] = { got[1][1], got[1][2], me } end \
       end \
       count = math.max(count, #again) \
     end \
     if not known then \
       for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], 'w')) do \
         local who, pending \
         for i = 1, #one, 2 do \
           if one[i] == 'name' then who = one[i + 1] elseif one[i] == 'pending' then pending = one[i + 1] end \
         end \
         if pending > 0 and who ~= me then redis.call('HSETNX', KEYS[2], who, '0:' .. (now + lease)) end \
       end \
     end \
     for _, who in ipairs(dead) do \
       local room = count - #again \
       local left = redis.call('XPENDING', KEYS[1], 'w', '-', '+', room + 1, who) \
       for i = 1, math.min(#left, room) do \
         local got \
         if who == '-' then got = redis.call('XCLAIM', KEYS[1], 'w', me, 0, left[i][1], 'RETRYCOUNT', left[i][4]) \
         else got = redis.call('XCLAIM', KEYS[1], 'w', me, 0, left[i][1]) end \
         if got[1] then again[#again + 1] = { got[1][1], got[1][2], who } end \
       end \
       if #left > room then more = 1 \
       else redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'w', who) redis.call('HDEL', KEYS[2], who) end \
     end \
     local fresh = {} \
     if count > #again then \
       local read = redis.call('XREADGROUP', 'GROUP', 'w', me, 'COUNT', count - #again, 'STREAMS', KEYS[1], '>') \
       if read then \
         for _, entry in ipairs(read[1][2]) do \
           if entry[2] then \
             for i = 1, #entry[2], 2 do if entry[2][i] == 'n' then works = works - (tonumber(entry[2][i + 1]) or 0) end end \
             fresh[#fresh + 1] = entry \
           end \
         end \
       end \
     end \
     if #fresh > 0 then waiting = waiting - #fresh end \
     if waiting <= 0 or (#fresh == 0 and count > #again) then waiting, works = 0, 0 end \
     if known or max > 0 or #fresh > 0 or #again > 0 then \
       redis.call('HSET', KEYS[2], '#e', waiting, '#w', math.max(0, works), me, mine .. ':' .. (now + lease)) \
     end \
     return { now, mine, waiting, fresh, again, more, max }",
);

/// Renews what we hold of a lane. Keys: holders. Arguments: our name, lease (ms), slots that we believe are ours.
///
/// A lease that ends later than any can is one by another clock, and ends a lease from now.
/// Answers 2 where there is something to pull: entries nobody has read, or those of a holder whose lease has ended. Where
/// somebody removed the key by hand we hold the lane again, with the slots that are in use anyway.
pub(super) static RENEW: Script = Script::new(
    "local t = redis.call('TIME') \
     local now = t[1] * 1000 + math.floor(t[2] / 1000) \
     local held, lease, found = ARGV[3] .. ':', tonumber(ARGV[2]), 1 \
     local all = redis.call('HGETALL', KEYS[1]) \
     for i = 1, #all, 2 do \
       if all[i] == ARGV[1] then held = all[i + 1] \
       elseif all[i] == '#e' then if tonumber(all[i + 1]) > 0 then found = 2 end \
       else \
         local slots, deadline = string.match(all[i + 1], '^(%d+):(%d+)$') \
         if slots and tonumber(deadline) < now then found = 2 \
         elseif slots and tonumber(deadline) > now + 2 * lease then \
           redis.call('HSET', KEYS[1], all[i], slots .. ':' .. (now + lease)) \
         end \
       end \
     end \
     redis.call('HSET', KEYS[1], ARGV[1], string.match(held, '^(%d+)') .. ':' .. (now + lease)) \
     return found",
);

/// Ends leases of a lane that end later than any can, and so are by another clock, a lease from now. Keys: holders.
/// Arguments: lease (ms).
pub(super) static SHORTEN: Script = Script::new(
    "local t = redis.call('TIME') \
     local now = t[1] * 1000 + math.floor(t[2] / 1000) \
     local lease = tonumber(ARGV[1]) \
     local all = redis.call('HGETALL', KEYS[1]) \
     for i = 1, #all, 2 do \
       local slots, deadline = string.match(all[i + 1], '^(%d+):(%d+)$') \
       if slots and tonumber(deadline) > now + 2 * lease then \
         redis.call('HSET', KEYS[1], all[i], slots .. ':' .. (now + lease)) \
       end \
     end",
);

/// Gives slots back, or the whole lane. Keys: stream, holders, begun. Arguments: our name, slots kept (-1: give up the lane).
///
/// A lane that is given up while entries of ours are pending is held on. Answers entries in the stream, or -1 when it
/// was removed because nobody needs it.
pub(super) static RELEASE: Script = Script::new(
    "local keep = tonumber(ARGV[2]) \
     local held = redis.call('HGET', KEYS[2], ARGV[1]) \
     if held and keep >= 0 then \
       local slots, deadline = string.match(held, '^(%d+):(%d+)$') \
       redis.call('HSET', KEYS[2], ARGV[1], math.min(keep, tonumber(slots)) .. ':' .. deadline) \
     end \
     if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2], KEYS[3]) return -1 end \
     local length = redis.call('XLEN', KEYS[1]) \
     if keep < 0 and held then \
       if length > 0 and #redis.call('XPENDING', KEYS[1], 'w', '-', '+', 1, ARGV[1]) > 0 then return length end \
       redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'w', ARGV[1]) \
       redis.call('HDEL', KEYS[2], ARGV[1]) \
     end \
     if length == 0 then \
       local t = redis.call('TIME') \
       local now = t[1] * 1000 + math.floor(t[2] / 1000) \
       local all = redis.call('HGETALL', KEYS[2]) \
       for i = 1, #all, 2 do \
         local deadline = string.match(all[i + 1], ':(%d+)$') \
         if not deadline or tonumber(deadline) < now then redis.call('HDEL', KEYS[2], all[i]) end \
       end \
       if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('DEL', KEYS[1], KEYS[3]) return -1 end \
     end \
     return length",
);

/// Hands entries back that were not begun, for others to read, and gives up the lane. Keys: stream, holders. Arguments: our
/// name, entry ids.
///
/// They wait under the name `-`, whose lease has always ended, and this delivery does not count.
pub(super) static HAND_BACK: Script = Script::new(
    "for i = 2, #ARGV do \
       redis.call('XCLAIM', KEYS[1], 'w', '-', 0, ARGV[i], 'RETRYCOUNT', 0, 'JUSTID') \
     end \
     if #ARGV > 1 then redis.call('HSET', KEYS[2], '-', '0:0') end \
     return #ARGV - 1",
);

/// How a lane stands; changes nothing. Keys: stream, holders.
///
/// Answers `{invocations that nobody has read, entries of these, entries in work, entries to be taken over, entries set aside,
/// age of the oldest that nobody works on (ms), most runs of the action, [[holder, slots, 1 if its lease holds]…]}`.
pub(super) static STANDING: Script = Script::new(
    "local t = redis.call('TIME') \
     local now = t[1] * 1000 + math.floor(t[2] / 1000) \
     local holders, alive, works, max = {}, {}, 0, 0 \
     local all = redis.call('HGETALL', KEYS[2]) \
     for i = 1, #all, 2 do \
       local slots, deadline = string.match(all[i + 1], '^(%d+):(%d+)$') \
       if slots then \
         local holds = tonumber(deadline) >= now \
         if holds then alive[all[i]] = true end \
         if all[i] ~= '-' then holders[#holders + 1] = { all[i], tonumber(slots), holds and 1 or 0 } end \
       elseif all[i] == '#w' then works = math.max(0, tonumber(all[i + 1]) or 0) \
       elseif all[i] == '#l' then max = tonumber(all[i + 1]) or 0 end \
     end \
     local oldest = now \
     local function seen(id) oldest = math.min(oldest, tonumber(string.match(id, '^(%d+)')) or now) end \
     local length, pending, last, work, left, aside = 0, 0, nil, 0, 0, 0 \
     if redis.call('EXISTS', KEYS[1]) == 1 then \
       length = redis.call('XLEN', KEYS[1]) \
       for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
         local named = {} \
         for i = 1, #group, 2 do named[group[i]] = group[i + 1] end \
         if named['name'] == 'w' then last = named['last-delivered-id'] end \
       end \
     end \
     if last then \
       local summary = redis.call('XPENDING', KEYS[1], 'w') \
       pending = summary[1] \
       for _, one in ipairs(summary[4] or {}) do \
         local count = tonumber(one[2]) \
         if one[1] == 'unreadable' then aside = count \
         elseif alive[one[1]] then work = work + count \
         else \
           left = left + count \
           local first = redis.call('XPENDING', KEYS[1], 'w', '-', '+', 1, one[1]) \
           if first[1] then seen(first[1][1]) end \
         end \
       end \
     end \
     local fresh = redis.call('XRANGE', KEYS[1], last and ('(' .. last) or '-', '+', 'COUNT', 1) \
     if fresh[1] then seen(fresh[1][1]) end \
     local entries = fresh[1] and math.max(1, length - pending) or 0 \
     if entries == 0 then works = 0 end \
     return { works, entries, work, left, aside, now - oldest, max, holders }",
);

/// Takes an entry that cannot be read out of the stream. Keys: stream, where it goes. Arguments: its id, most entries kept there.
pub(super) static SET_ASIDE: Script = Script::new(
    "local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) \
     if found[1] then \
       local fields = found[1][2] \
       redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', unpack(fields, 1, math.min(#fields, 1000))) \
     end \
     redis.call('XACK', KEYS[1], 'w', ARGV[1]) \
     return redis.call('XDEL', KEYS[1], ARGV[1])",
);
